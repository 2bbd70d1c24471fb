//! `chronik topic`: create, list, describe, delete.

use std::fmt::Write as _;

use chronik_client::{NewTopic, TopicInfo};
use chronik_model::NodeId;

use super::{Session, Stop, print, say};
use crate::cli::{Topic, TopicCreate};

pub(crate) async fn run(command: Topic, variables: &[(String, String)]) -> Result<(), Stop> {
    match command {
        Topic::Create(TopicCreate { name, partitions, replication_factor, config, bootstrap }) => {
            let mut session = Session::open(&bootstrap, variables).await?;
            let topic = NewTopic { name, partitions, replication_factor, configs: config };
            session.client.create_topic(&topic).await.map_err(|error| session.explain(&error))?;
            say(&format!("created topic {}", topic.name));
        }
        Topic::List { internal, bootstrap } => {
            let mut session = Session::open(&bootstrap, variables).await?;
            let topics = session.client.all_topics().await.map_err(|error| session.explain(&error))?;
            let names = topics.iter().filter(|topic| internal || !topic.internal);
            let text = names.fold(String::new(), |text, topic| text + &topic.name + "\n");
            print(&text)?;
        }
        Topic::Describe { name, bootstrap } => {
            let mut session = Session::open(&bootstrap, variables).await?;
            let described = match name {
                Some(name) => session.client.topic(&name).await.map(|topic| vec![topic]),
                None => session.client.all_topics().await,
            };
            let topics = described.map_err(|error| session.explain(&error))?;
            print(&topics.iter().map(described_topic).collect::<String>())?;
        }
        Topic::Delete { name, bootstrap } => {
            let mut session = Session::open(&bootstrap, variables).await?;
            session.client.delete_topic(&name).await.map_err(|error| session.explain(&error))?;
            say(&format!("deleted topic {name}"));
        }
    }
    Ok(())
}

/// One line for the topic and one, indented, for each partition; every line stands for itself under `grep`.
fn described_topic(topic: &TopicInfo) -> String {
    let replicas = topic.partitions.values().next().map_or(0, |partition| partition.replicas.len());
    let mut text = format!(
        "topic={} id={} partitions={} replication-factor={replicas} internal={}\n",
        topic.name,
        topic.id,
        topic.partitions.len(),
        topic.internal
    );
    for (index, partition) in &topic.partitions {
        let leader = partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  topic={} partition={index} leader={leader} leader-epoch={} replicas={} isr={}",
            topic.name,
            partition.leader_epoch,
            listed(&partition.replicas),
            listed(&partition.isr)
        );
    }
    text
}

fn listed(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chronik_client::PartitionInfo;
    use chronik_model::{LeaderEpoch, PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn a_description_has_a_line_for_each_partition() {
        let nodes = vec![NodeId::new(1), NodeId::new(2)];
        let partition = |leader| PartitionInfo {
            leader,
            leader_epoch: LeaderEpoch::new(4),
            replicas: nodes.clone(),
            isr: vec![NodeId::new(1)],
        };
        let topic = TopicInfo {
            name: "t".to_owned(),
            id: TopicId::ZERO,
            internal: false,
            partitions: BTreeMap::from([
                (PartitionIndex::new(0), partition(Some(NodeId::new(1)))),
                (PartitionIndex::new(1), partition(None)),
            ]),
        };
        assert_eq!(
            described_topic(&topic),
            "topic=t id=AAAAAAAAAAAAAAAAAAAAAA partitions=2 replication-factor=2 internal=false\n  \
             topic=t partition=0 leader=1 leader-epoch=4 replicas=1,2 isr=1\n  \
             topic=t partition=1 leader=none leader-epoch=4 replicas=1,2 isr=1\n"
        );
    }
}
