//! Where two logs part, found by their leader epochs (KIP-101, KIP-279, KIP-320).
//!
//! An epoch has one leader, and whoever has a batch of it has everything before it from the same log. So the latest epoch
//! that both have is where they agree last: up to where the first of them leaves it.

use chronik_model::{LeaderEpoch, Offset};

use crate::message::HISTORY_MAX;

/// Whether two logs agree, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// Up to here, exclusive; never behind the follower's end.
    Until(Offset),
    /// They have no epoch in common.
    None,
}

/// How far the follower's log agrees with the leader's.
pub(super) fn common_end(
    leader: &[(LeaderEpoch, Offset)],
    leader_end: Offset,
    follower: &[(LeaderEpoch, Offset)],
    follower_end: Offset,
) -> Agreement {
    for (at, (leader_epoch, _)) in follower.iter().enumerate().rev() {
        let Ok(on_leader) = leader.binary_search_by_key(leader_epoch, |entry| entry.0) else { continue };
        let ends = [
            follower.get(at + 1).map_or(follower_end, |next| next.1),
            leader.get(on_leader + 1).map_or(leader_end, |next| next.1),
        ];
        return Agreement::Until(ends.into_iter().min().unwrap_or(follower_end).min(follower_end));
    }
    Agreement::None
}

/// Whether a follower had to leave out its older epochs.
pub(super) fn is_cut_short(epochs: &[(LeaderEpoch, Offset)], log_start: Offset) -> bool {
    epochs.len() >= HISTORY_MAX && epochs.first().is_some_and(|first| first.1 > log_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> Vec<(LeaderEpoch, Offset)> {
        entries.iter().map(|(epoch, start)| (LeaderEpoch::new(*epoch), Offset::new(*start))).collect()
    }

    fn agreed(leader: &[(i32, i64)], leader_end: i64, follower: &[(i32, i64)], follower_end: i64) -> Option<i64> {
        let (leader_end, follower_end) = (Offset::new(leader_end), Offset::new(follower_end));
        match common_end(&history(leader), leader_end, &history(follower), follower_end) {
            Agreement::Until(end) => Some(end.get()),
            Agreement::None => None,
        }
    }

    #[test]
    fn a_follower_that_is_behind_in_the_same_epoch_agrees_as_a_whole() {
        assert_eq!(agreed(&[(0, 0), (3, 20)], 50, &[(0, 0), (3, 20)], 30), Some(30));
        assert_eq!(agreed(&[(0, 0), (3, 20)], 50, &[(0, 0)], 10), Some(10));
    }

    #[test]
    fn a_tail_of_the_old_leader_is_not_shared_kip_101() {
        // The old leader wrote 20..25 in epoch 0; the new one began epoch 1 at 20.
        assert_eq!(agreed(&[(0, 0), (1, 20)], 40, &[(0, 0)], 25), Some(20));
    }

    #[test]
    fn two_fast_failovers_do_not_hide_a_divergence_kip_279() {
        // Follower: epoch 1 from 20. Leader: never had epoch 1, epoch 2 from 15.
        assert_eq!(agreed(&[(0, 0), (2, 15)], 40, &[(0, 0), (1, 20)], 30), Some(15));
        // Follower left epoch 0 earlier than the leader did.
        assert_eq!(agreed(&[(0, 0), (2, 25)], 40, &[(0, 0), (1, 20)], 30), Some(20));
        assert_eq!(agreed(&[(0, 0), (2, 15), (5, 30)], 40, &[(0, 0), (1, 12), (3, 14), (4, 18)], 33), Some(12));
    }

    #[test]
    fn a_leader_that_lost_its_tail_in_the_same_epoch_has_it_cut() {
        assert_eq!(agreed(&[(4, 0)], 10, &[(4, 0)], 12), Some(10));
    }

    #[test]
    fn logs_without_a_common_epoch_share_nothing() {
        assert_eq!(agreed(&[(2, 50)], 60, &[(0, 0), (1, 20)], 30), None);
        assert_eq!(agreed(&[], 0, &[(1, 0)], 30), None);
    }
}
