//! `chronik bench produce`: how fast records are acknowledged.

use std::sync::Arc;

use super::super::{Session, Stop};
use super::meter::Meter;
use super::pace::{Loop, Schedule};
use super::progress::Progress;
use super::report::{Ended, Figures, From, Percentiles, Report, seconds};
use super::sending::{Sent, Settings, connect, run_all};
use super::topic::find_or_create;
use super::verify::read_back;
use super::{
    Clock, explain, explain_sending, nothing_measured, plan, print_report, run_number, stop_on_signal, watched,
};
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
    let Sent { ledger, full } = sent.map_err(|error| explain_sending(&session, &error))?;

    let ended = Ended::of(*stop.borrow(), full);
    let (tally, elapsed) = meter.measured();
    if tally.records == 0 {
        return Err(nothing_measured(&stop, "no record was due after the warm-up").into());
    }
    let verified = if load.no_verify {
        None
    } else {
        Some(read_back(&mut session, &topic, &settings.content, ledger, &mut progress, &mut stop).await?)
    };
    drop(progress);
    let report = Report {
        mode: "produce",
        topic,
        topic_created: found.created,
        partitions: found.partitions,
        replication_factor: found.replication_factor,
        connections: shares.len(),
        load: Some(settings.described()),
        ended,
        warm_up_s: seconds(load.warm_up),
        figures: Figures::new(&tally, elapsed),
        latency_from: if kind == Loop::Closed { From::Sent } else { From::Due },
        latency_ms: Percentiles::new(&tally.latencies),
        ack_latency_ms: None,
        client_cpu_s: seconds(client_cpu),
        verified,
    };
    print_report(&report, load.json)
}
