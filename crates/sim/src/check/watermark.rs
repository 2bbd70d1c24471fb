//! DESIGN 4.4 rule 4, I6: high watermark and log start never move back, and the offsets of a replica are in order.

use std::collections::BTreeMap;

use chronik_model::{NodeId, Offset};

use crate::sight::{Role, Sight, Violation, hold};

/// The watermark went back.
pub const HIGH_WATERMARK: &str = "high-watermark-monotonic";
/// The log start went back.
pub const LOG_START: &str = "log-start-monotonic";
/// The bounds of one replica contradict each other.
pub const ORDER: &str = "bounds-in-order";

/// The highest values each node has shown.
#[derive(Debug, Default)]
pub struct Watermarks {
    shown: BTreeMap<NodeId, Sight>,
}

impl Watermarks {
    /// What a node showed last.
    pub fn last(&self, node: NodeId) -> Option<&Sight> {
        self.shown.get(&node)
    }

    /// A node may go back to `to`: it follows another history from now on, or its leader lost what its mode may lose.
    pub fn lower(&mut self, node: NodeId, to: Offset) {
        if let Some(shown) = self.shown.get_mut(&node) {
            shown.high_watermark = shown.high_watermark.min(to);
        }
    }

    /// Looks at one replica.
    pub fn see(&mut self, sight: &Sight) -> Result<(), Violation> {
        hold!(
            ORDER,
            sight.log_start <= sight.high_watermark
                && sight.high_watermark <= sight.log_end
                && sight.durable_end <= sight.log_end,
            "{sight}"
        );
        if let Some(before) = self.shown.insert(sight.node, *sight) {
            // A follower that starts again serves nobody before it has reached what it served; a leader learns it again.
            let follows = before.role == Role::Follower && sight.role == Role::Follower;
            if (before.run == sight.run || follows) && sight.role != Role::Nobody {
                let stays = sight.high_watermark >= before.high_watermark;
                hold!(HIGH_WATERMARK, stays, "was {before}; is {sight}");
                hold!(LOG_START, sight.log_start >= before.log_start, "was {before}; is {sight}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::matching::tests::sight;

    fn at(log_start: i64, high_watermark: i64, log_end: i64) -> Sight {
        Sight {
            log_start: Offset::new(log_start),
            high_watermark: Offset::new(high_watermark),
            log_end: Offset::new(log_end),
            ..sight(1, Role::Follower, 0)
        }
    }

    fn check(sights: &[Sight]) -> Result<(), Violation> {
        let mut watermarks = Watermarks::default();
        sights.iter().try_for_each(|sight| watermarks.see(sight))
    }

    #[test]
    fn what_goes_back_is_found() {
        assert_eq!(check(&[at(0, 4, 9), at(0, 3, 9)]).unwrap_err().rule, HIGH_WATERMARK);
        assert_eq!(check(&[at(2, 4, 9), at(1, 4, 9)]).unwrap_err().rule, LOG_START);
        assert_eq!(check(&[at(0, 4, 3)]).unwrap_err().rule, ORDER);
    }

    #[test]
    fn a_restart_may_forget_its_watermark() {
        assert_eq!(check(&[at(0, 4, 9), Sight { run: 2, ..at(0, 0, 9) }, Sight { run: 2, ..at(0, 9, 9) }]), Ok(()));
    }
}
