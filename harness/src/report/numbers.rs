//! Numbers as people read them: few digits, and a unit.

/// A count with thousands apart: `1,234,567`.
pub fn count(value: u64) -> String {
    indicatif::HumanCount(value).to_string()
}

/// A size in binary units: `1.50 MiB`.
pub fn bytes(value: u64) -> String {
    indicatif::BinaryBytes(value).to_string()
}

/// A count with three digits and a letter for the rest: `1.23k`, `45.6M`.
pub fn short(value: f64) -> String {
    let letters = ["", "k", "M", "G", "T"];
    let steps = letters.len() - 1;
    let step = (0..steps).find(|step| value < 999.5 * 1000f64.powi(*step as i32)).unwrap_or(steps);
    let scaled = value / 1000f64.powi(step as i32);
    let digits = match scaled {
        _ if step == 0 && scaled.fract() == 0.0 => 0,
        _ if scaled < 9.995 => 2,
        _ if scaled < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{}", letters[step])
}

/// A share, 0 to 1, in percent: `0.21 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keeps_three_digits() {
        let shown = [0.0, 7.0, 999.0, 1000.0, 12_345.0, 999_900.0, 45_600_000.0].map(short);
        assert_eq!(shown, ["0", "7", "999", "1.00k", "12.3k", "1.00M", "45.6M"]);
    }

    #[test]
    fn counts_and_sizes_are_grouped() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(3 << 19), "1.50 MiB");
        assert_eq!(percent(0.0021), "0.21 %");
    }
}
