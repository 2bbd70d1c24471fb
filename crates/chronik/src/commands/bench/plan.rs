//! Which connection has which partitions.

use std::collections::BTreeMap;

use chronik_model::{NodeId, PartitionIndex};

/// One connection: a broker, and the partitions of it that are written or read there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) leader: NodeId,
    pub(crate) partitions: Vec<PartitionIndex>,
}

type Leaders = BTreeMap<NodeId, Vec<PartitionIndex>>;

/// `connections` connections, at least one for each leader. Where a leader has more connections than partitions, several
/// write to one.
pub(crate) fn writing(leaders: &Leaders, connections: usize) -> Vec<Share> {
    shares(leaders, connections, |partitions, rank, count| {
        if partitions.len() >= count {
            return partitions.iter().skip(rank).step_by(count).copied().collect();
        }
        partitions.get(rank % partitions.len().max(1)).copied().into_iter().collect()
    })
}

/// At most `connections` connections, but at least one for each leader. Each partition is read on one of them, so there are
/// never more than partitions.
pub(crate) fn reading(leaders: &Leaders, connections: usize) -> Vec<Share> {
    shares(leaders, connections, |partitions, rank, count| {
        partitions.iter().skip(rank).step_by(count).copied().collect()
    })
}

/// Gives connections to the leaders in turn; `choose` has a leader's partitions, and which of how many connections it is.
fn shares(
    leaders: &Leaders,
    connections: usize,
    choose: impl Fn(&[PartitionIndex], usize, usize) -> Vec<PartitionIndex>,
) -> Vec<Share> {
    let total = connections.max(leaders.len());
    let mut shares = Vec::new();
    for (place, (&leader, partitions)) in leaders.iter().enumerate() {
        let count = total.saturating_sub(place).div_ceil(leaders.len()).max(1);
        for rank in 0..count {
            let partitions = choose(partitions, rank, count);
            if !partitions.is_empty() {
                shares.push(Share { leader, partitions });
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaders(partitions: &[&[i32]]) -> Leaders {
        let indexes = |indexes: &[i32]| indexes.iter().copied().map(PartitionIndex::new).collect();
        (1..).map(NodeId::new).zip(partitions.iter().map(|partitions| indexes(partitions))).collect()
    }

    fn shown(shares: &[Share]) -> Vec<(i32, Vec<i32>)> {
        let partitions = |share: &Share| share.partitions.iter().map(|partition| partition.get()).collect();
        shares.iter().map(|share| (share.leader.get(), partitions(share))).collect()
    }

    #[test]
    fn partitions_are_spread_over_connections() {
        let one = leaders(&[&[0, 1, 2]]);
        for plan in [writing, reading] {
            assert_eq!(shown(&plan(&one, 1)), [(1, vec![0, 1, 2])]);
            assert_eq!(shown(&plan(&one, 2)), [(1, vec![0, 2]), (1, vec![1])]);
        }
        let two = leaders(&[&[0, 2], &[1]]);
        assert_eq!(shown(&writing(&two, 1)), [(1, vec![0, 2]), (2, vec![1])]);
        assert_eq!(shown(&writing(&two, 3)), [(1, vec![0]), (1, vec![2]), (2, vec![1])]);
    }

    #[test]
    fn writers_may_share_a_partition_and_readers_may_not() {
        let one = leaders(&[&[0, 1]]);
        assert_eq!(shown(&writing(&one, 3)), [(1, vec![0]), (1, vec![1]), (1, vec![0])]);
        assert_eq!(shown(&reading(&one, 3)), [(1, vec![0]), (1, vec![1])]);
    }
}
