//! The topic of a run: the one that is there, or one made for it.

use chronik_client::{ClientError, NewTopic, TopicInfo};

use super::super::{Session, Stop, say};
use crate::problem::Problem;

/// A topic as the run found or made it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) created: bool,
    pub(crate) partitions: usize,
    pub(crate) replication_factor: usize,
}

impl Found {
    pub(crate) fn of(topic: &TopicInfo, created: bool) -> Self {
        let replicas = topic.partitions.values().map(|partition| partition.replicas.len());
        Self { created, partitions: topic.partitions.len(), replication_factor: replicas.min().unwrap_or(0) }
    }
}

/// Finds a topic, or makes it. One that is there must have what was asked for.
pub(crate) async fn find_or_create(
    session: &mut Session,
    name: &str,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
) -> Result<Found, Stop> {
    match session.client.topic(name).await {
        Ok(topic) => {
            let found = Found::of(&topic, false);
            suffices(name, &found, partitions, replication_factor)?;
            return Ok(found);
        }
        Err(ClientError::NoSuchTopic(_)) => {}
        Err(error) => return Err(session.explain(&error).into()),
    }
    let topic = NewTopic { name: name.to_owned(), partitions, replication_factor, configs: Vec::new() };
    let created = match session.client.create_topic(&topic).await {
        Ok(_) => session.client.topic(name).await,
        Err(error) => Err(error),
    };
    let found = Found::of(&created.map_err(|error| session.explain(&error))?, true);
    say(&format!(
        "created topic {name} with {} partitions and replication factor {}",
        found.partitions, found.replication_factor
    ));
    Ok(found)
}

fn suffices(
    name: &str,
    found: &Found,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
) -> Result<(), Problem> {
    let lacks = |found: usize, asked: usize, what: &str, flag: &str| {
        (found < asked).then(|| {
            Problem::new(
                format!("topic {name} is there and has {what} {found}, not the {asked} of {flag}"),
                format!(
                    "leave {flag} out to measure with it as it is, name another topic, or `chronik topic delete {name}`"
                ),
            )
        })
    };
    let partitions = partitions.and_then(|asked| usize::try_from(asked).ok()).unwrap_or(0);
    let replicas = replication_factor.and_then(|asked| usize::try_from(asked).ok()).unwrap_or(0);
    let lacking = lacks(found.partitions, partitions, "partitions:", "--partitions")
        .or_else(|| lacks(found.replication_factor, replicas, "replicas:", "--replication-factor"));
    lacking.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_less_than_asked_for_is_not_measured() {
        let found = Found { created: false, partitions: 3, replication_factor: 2 };
        let problem = |partitions, replicas| suffices("t", &found, partitions, replicas).map_err(|p| p.to_string());
        assert_eq!(problem(None, None), Ok(()));
        assert_eq!(problem(Some(3), Some(1)), Ok(()));
        let text = problem(Some(4), None).unwrap_err();
        assert!(text.starts_with("topic t is there and has partitions: 3, not the 4 of --partitions"), "{text}");
        let text = problem(Some(1), Some(3)).unwrap_err();
        assert!(text.contains("replicas: 2, not the 3 of --replication-factor"), "{text}");
    }
}
