//! `chronik promote`: a follower becomes the leader, and what that costs.

use chronik_broker::replication::PromotionAnswer;

use super::table::{Column, Table, counted, shown, time};
use super::{Stop, http, print};
use crate::cli::Promote;
use crate::config::parse_host_port;
use crate::problem::Problem;

pub(crate) async fn run(command: Promote) -> Result<(), Stop> {
    let address = parse_host_port(&command.http, "--http", "127.0.0.1:6092")?.to_string();
    let answer = http::post(&address, &path(&command)).await?;
    // Both statuses carry the whole answer, the second one that of a refusal.
    let told: PromotionAnswer = match (answer.status, serde_json::from_slice(&answer.body)) {
        (200 | 409, Ok(told)) => told,
        _ => return Err(answer.refusal(&address).into()),
    };
    match command.json {
        true => print(&String::from_utf8_lossy(&answer.body))?,
        false => print(&described(&told))?,
    }
    match outcome(&told, &command, &address) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

fn path(command: &Promote) -> String {
    let flags = [
        ("require_caught_up", command.require_caught_up),
        ("dry_run", command.dry_run),
        ("accept_damage", command.accept_damage),
    ];
    let given = flags.iter().filter(|(_, given)| *given).map(|(name, _)| format!("{name}=true"));
    let query = given.collect::<Vec<_>>().join("&");
    format!("/api/v1/promote{}{query}", if query.is_empty() { "" } else { "?" })
}

/// Why this is a failure, if it is one.
fn outcome(told: &PromotionAnswer, command: &Promote, address: &str) -> Option<Problem> {
    if told.refused.is_none() && (told.promoted || told.dry_run) {
        return None;
    }
    let why = told.refused.as_deref().map_or_else(|| "it gives no reason".to_owned(), shown);
    let verb = if told.dry_run { "would not become" } else { "did not become" };
    let next = if command.require_caught_up && !told.caught_up {
        format!(
            "wait until `chronik replication status --http {address}` shows no lag, or leave out --require-caught-up \
             and lose what --dry-run lists"
        )
    } else {
        format!("`chronik replication status --http {address}` shows the node's role and links; nothing was changed")
    };
    Some(Problem::new(format!("the node at {address} {verb} the leader: {why}"), next))
}

fn described(told: &PromotionAnswer) -> String {
    let (generation, leader_epoch) = (told.generation, told.leader_epoch);
    let mut text = match (told.promoted, told.dry_run, &told.refused) {
        (true, ..) => format!(
            "this node leads: generation {generation}, leader epoch {leader_epoch}, open for writes after {}\n",
            time(told.took_ms)
        ),
        (false, true, None) => {
            format!("dry run: this node would lead in generation {generation} or later, leader epoch {leader_epoch}\n")
        }
        (false, ..) => String::new(),
    };
    let mut table = Table::new([
        Column::Text("TOPIC"),
        Column::Number("PARTITION"),
        Column::Number("LOG END"),
        Column::Number("OLD LEADER'S END"),
        Column::Number("LOST RECORDS"),
    ]);
    let (mut lost, mut unknown) = (0_u64, 0_u64);
    for partition in &told.partitions {
        if partition.lost_records == 0 && partition.old_leader_end.is_some() {
            continue;
        }
        lost = lost.saturating_add(partition.lost_records);
        unknown += u64::from(partition.old_leader_end.is_none());
        let not_known = || "not known".to_owned();
        table.row([
            partition.topic.clone(),
            partition.partition.to_string(),
            partition.log_end.to_string(),
            partition.old_leader_end.map_or_else(not_known, |end| end.to_string()),
            partition.old_leader_end.map_or_else(not_known, |_| partition.lost_records.to_string()),
        ]);
    }
    text += &match (told.caught_up, lost, unknown) {
        (true, ..) => "it has everything the old leader had\n".to_owned(),
        (false, 0, 0) => "nothing is known to be lost; what the old leader wrote last was not heard of\n".to_owned(),
        (false, lost, 0) => format!("the old leader had at least {} more than are here:\n", counted(lost, "record")),
        (false, lost, unknown) => format!(
            "the old leader had at least {} more than are here, and what it had of {} is not known:\n",
            counted(lost, "record"),
            counted(unknown, "partition"),
        ),
    };
    if lost > 0 || unknown > 0 {
        text += &table.text();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chronik_broker::replication::PromotedPartition;
    use chronik_console::{Console, LIMITS_DEFAULT, Promotion, Readiness, Reply, State};
    use expect_test::{Expect, expect};

    use super::*;

    fn partition(partition: i32, log_end: i64, old_leader_end: Option<i64>) -> PromotedPartition {
        let lost = old_leader_end.unwrap_or(log_end) - log_end;
        let lost_records = u64::try_from(lost).unwrap();
        PromotedPartition { topic: "orders".to_owned(), partition, log_end, old_leader_end, lost_records }
    }

    fn answer() -> PromotionAnswer {
        PromotionAnswer {
            promoted: true,
            generation: 4,
            leader_epoch: 9,
            took_ms: 312,
            caught_up: true,
            partitions: vec![partition(0, 40, Some(40))],
            ..PromotionAnswer::default()
        }
    }

    fn command(flags: &str) -> Promote {
        Promote {
            http: "127.0.0.1:6092".to_owned(),
            require_caught_up: flags.contains("caught-up"),
            dry_run: flags.contains("dry-run"),
            accept_damage: flags.contains("damage"),
            json: flags.contains("json"),
        }
    }

    fn check(told: &PromotionAnswer, expected: Expect) {
        let problem = outcome(told, &command(""), "a:1").map(|problem| format!("error: {problem}\n"));
        expected.assert_eq(&(described(told) + &problem.unwrap_or_default()));
    }

    #[test]
    fn a_promotion_tells_what_is_known_to_be_lost() {
        check(
            &answer(),
            expect![[r#"
            this node leads: generation 4, leader epoch 9, open for writes after 312 ms
            it has everything the old leader had
        "#]],
        );
        let partitions = vec![partition(0, 40, Some(40)), partition(1, 40, Some(52)), partition(2, 7, None)];
        check(
            &PromotionAnswer { caught_up: false, partitions, ..answer() },
            expect![[r#"
            this node leads: generation 4, leader epoch 9, open for writes after 312 ms
            the old leader had at least 12 records more than are here, and what it had of 1 partition is not known:
            TOPIC   PARTITION  LOG END  OLD LEADER'S END  LOST RECORDS
            orders          1       40                52            12
            orders          2        7         not known     not known
        "#]],
        );
        let dry_run = PromotionAnswer { promoted: false, dry_run: true, caught_up: false, ..answer() };
        check(
            &dry_run,
            expect![[r#"
            dry run: this node would lead in generation 4 or later, leader epoch 9
            nothing is known to be lost; what the old leader wrote last was not heard of
        "#]],
        );
    }

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let refused = PromotionAnswer {
            promoted: false,
            refused: Some("it is behind\u{7}".to_owned()),
            caught_up: false,
            partitions: vec![partition(0, 40, Some(41))],
            ..answer()
        };
        check(
            &refused,
            expect![[r#"
            the old leader had at least 1 record more than are here:
            TOPIC   PARTITION  LOG END  OLD LEADER'S END  LOST RECORDS
            orders          0       40                41             1
            error: the node at a:1 did not become the leader: it is behind�
              `chronik replication status --http a:1` shows the node's role and links; nothing was changed
        "#]],
        );
        let problem = outcome(&refused, &command("caught-up"), "a:1").unwrap().to_string();
        assert!(problem.contains("wait until `chronik replication status --http a:1` shows no lag"), "{problem}");
    }

    #[test]
    fn flags_become_parameters() {
        assert_eq!(path(&command("")), "/api/v1/promote");
        assert_eq!(path(&command("dry-run")), "/api/v1/promote?dry_run=true");
        assert_eq!(
            path(&command("dry-run caught-up damage")),
            "/api/v1/promote?require_caught_up=true&dry_run=true&accept_damage=true"
        );
    }

    #[tokio::test]
    async fn the_node_is_asked_and_its_refusal_is_a_failure() {
        let asked: Arc<Mutex<Vec<Promotion>>> = Arc::default();
        let asking = Arc::clone(&asked);
        let refused = PromotionAnswer { refused: Some("it leads already".to_owned()), ..PromotionAnswer::default() };
        let body = serde_json::to_vec(&refused).unwrap();
        let state = State {
            readiness: Arc::new(|| Readiness::Ready),
            metrics: Arc::default(),
            replication: Arc::new(|| Reply::error(503, "starting")),
            promote: Arc::new(move |promotion| {
                asking.lock().unwrap().push(promotion);
                let body = body.clone();
                Box::pin(async move {
                    if promotion.dry_run { Reply::error(503, "starting") } else { Reply { status: 409, body } }
                })
            }),
        };
        let console = Console::bind("127.0.0.1:0".parse().unwrap(), LIMITS_DEFAULT).await.unwrap();
        let http = console.local_addr().to_string();
        tokio::spawn(console.serve(state, std::future::pending()));
        for (flags, expected) in [
            ("json", format!("the node at {http} did not become the leader: it leads already")),
            ("dry-run caught-up", format!("the node at {http} is starting")),
        ] {
            let failed = run(Promote { http: http.clone(), ..command(flags) }).await.unwrap_err();
            let Stop::Problem(problem) = failed else { panic!("{failed:?}") };
            assert!(problem.to_string().contains(&expected), "{problem}");
        }
        let second = Promotion { require_caught_up: true, dry_run: true, accept_damage: false };
        assert_eq!(*asked.lock().unwrap(), [Promotion::default(), second]);
    }

    #[tokio::test]
    async fn what_is_no_node_is_told_apart_from_nobody() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = silent.local_addr().unwrap().to_string();
        let asking = tokio::spawn(run(Promote { http: http.clone(), ..command("") }));
        drop(silent.accept().await.unwrap());
        let Stop::Problem(problem) = asking.await.unwrap().unwrap_err() else { panic!("a problem") };
        assert!(problem.to_string().contains(&http), "{problem}");
        drop(silent);
        let Stop::Problem(problem) = run(Promote { http, ..command("") }).await.unwrap_err() else {
            panic!("a problem")
        };
        assert!(problem.to_string().contains("is `chronik serve` running there?"), "{problem}");
    }
}
