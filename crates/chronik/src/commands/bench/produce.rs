//! `chronik bench produce`: how fast records are acknowledged.

use std::sync::Arc;

use super::super::{Session, Stop};
use super::meter::Meter;
use super::pace::{Loop, Schedule};
use super::progress::Progress;
use super::report::From;
use super::sending::{Settings, connect, run_all};
use super::topic::find_or_create;
use super::written::Written;
use super::{Clock, explain, explain_sending, plan, run_number, stop_on_signal, watched};
use crate::cli::{BenchProduce, Throughput};

pub(crate) async fn run(command: BenchProduce, variables: &[(String, String)]) -> Result<(), Stop> {
    let BenchProduce { topic, throughput, linger, connections, load } = command;
    let mut stop = stop_on_signal()?;
    let mut session = Session::open(&load.bootstrap, variables).await?;
    let found = find_or_create(&mut session, &topic, load.partitions, load.replication_factor).await?;
    let leaders = session.client.leaders(&topic).await.map_err(|error| explain(&session, &error))?;
    let shares = plan::writing(&leaders, connections);
    let kind = match throughput {
        Throughput::PerSecond(records_per_s) => Loop::Open { schedule: Schedule::new(records_per_s), linger },
        Throughput::Unlimited => Loop::Closed,
    };
    let settings = Arc::new(Settings::new(&topic, kind, &load, run_number()?));
    let senders = connect(&mut session, &settings, &shares).await;
    let senders = senders.map_err(|error| explain_sending(&session, &error))?;

    let meter = Arc::new(Meter::new(load.warm_up));
    let mut progress = Progress::new();
    let clock = Clock::start();
    let sending = run_all(senders, clock, Arc::clone(&meter), stop.clone());
    let (sent, client_cpu) = watched(sending, &meter, clock, load.warm_up, &mut progress).await;
    let sent = sent.map_err(|error| explain_sending(&session, &error))?;

    let run = Written {
        mode: "produce",
        topic,
        found,
        load: &load,
        settings: &settings,
        connections: shares.len(),
        measured: &meter,
        latency_from: if kind == Loop::Closed { From::Sent } else { From::Due },
        acknowledged: None,
        client_cpu,
    };
    run.conclude(&mut session, sent, progress, &mut stop).await
}
