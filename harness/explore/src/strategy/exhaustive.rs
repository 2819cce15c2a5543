//! Every schedule with so many preemptions, one after the other.
//!
//! A preemption before a step that conflicts with nothing that others then do is the same as one after that step, and
//! that schedule is looked at too: so the first is not gone into. (A sleep set of one; Godefroid 1996.)

use rumpvm_hosted::explored::{Agent, Chance, Chooser, Moment, Next};

/// One moment on the path, and what can be chosen there.
struct Branch {
    options: Vec<Option<Agent>>,
    /// Which of them is chosen now.
    at: usize,
    /// Preemptions and accidents before it.
    spent: u32,
    /// What each option adds to them.
    costs: Vec<u32>,
}

/// Somebody who was preempted, and the step that he was about to make.
struct Preempted {
    agent: Agent,
    next: Next,
    /// Others have done something since that conflicts with it.
    matters: bool,
}

/// A depth-first search over all choices, within a bound.
pub struct Exhaustive {
    bound: u32,
    path: Vec<Branch>,
    depth: usize,
    spent: u32,
    preempted: Vec<Preempted>,
    /// The rest of this run is the same as one that is looked at anyway.
    redundant: bool,
}

impl Exhaustive {
    /// The search with at most `bound` preemptions and accidents in a run.
    pub fn new(bound: u32) -> Self {
        Self {
            bound,
            path: Vec::new(),
            depth: 0,
            spent: 0,
            preempted: Vec::new(),
            redundant: false,
        }
    }

    /// Whether the run just made was the same as another one.
    pub fn was_redundant(&self) -> bool {
        self.redundant
    }

    /// Goes on to the next schedule; false when there is none left.
    pub fn advance(&mut self) -> bool {
        self.path.truncate(self.depth.max(1));
        (self.depth, self.spent, self.redundant) = (0, 0, false);
        self.preempted.clear();
        while let Some(branch) = self.path.last_mut() {
            if branch.at + 1 < branch.options.len() {
                branch.at += 1;
                return true;
            }
            self.path.pop();
        }
        false
    }

    /// The option at the current depth, with a new branch if there is none yet.
    fn take(&mut self, make: impl FnOnce(u32) -> (Vec<Option<Agent>>, Vec<u32>)) -> Option<Agent> {
        if self.depth == self.path.len() {
            let (options, costs) = make(self.bound - self.spent);
            self.path.push(Branch { options, at: 0, spent: self.spent, costs });
        }
        let branch = &self.path[self.depth];
        self.depth += 1;
        self.spent = branch.spent + branch.costs[branch.at];
        branch.options[branch.at]
    }
}

impl Chooser for Exhaustive {
    fn next(&mut self, moment: &Moment<'_>) -> Agent {
        if self.redundant {
            return moment.default();
        }
        let chosen = self.take(|left| {
            let first = moment.default();
            let mut options = vec![Some(first)];
            let mut costs = vec![0];
            for agent in moment.enabled.iter().filter(|agent| *agent != first) {
                let cost = u32::from(moment.is_preemption(agent));
                if cost <= left {
                    options.push(Some(agent));
                    costs.push(cost);
                }
            }
            (options, costs)
        });
        let chosen = chosen.expect("this was a moment when the path was made");
        if chosen != moment.current && moment.enabled.contains(moment.current) {
            let next = moment.next[moment.current.index()];
            self.preempted.push(Preempted { agent: moment.current, next, matters: next.at == 0 });
        }
        if let Some(at) = self.preempted.iter().position(|it| it.agent == chosen) {
            let back = self.preempted.swap_remove(at);
            self.redundant = !back.matters;
        }
        chosen
    }

    fn takes(&mut self, _what: Chance, agent: Agent, _nth: u32) -> bool {
        if self.redundant {
            return false;
        }
        let taken = self.take(|left| {
            if left == 0 { (vec![None], vec![0]) } else { (vec![None, Some(agent)], vec![0, 1]) }
        });
        taken.is_some()
    }

    fn saw(&mut self, agent: Agent, step: Next) {
        for preempted in &mut self.preempted {
            preempted.matters |= preempted.agent != agent && preempted.next.conflicts(step);
        }
    }
}
