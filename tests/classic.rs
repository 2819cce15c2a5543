//! Page tables under somebody else's map: the classic interface, in every format, beside a flat model.

mod classic {
    mod bits;
    mod machine;
    mod random;
    mod refused;
}
