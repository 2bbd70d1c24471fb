//! Incremental fetch sessions (KIP-227): what a consumer fetches is remembered, so that a request names only changes
//! and a response only partitions with something to say.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use chronik_model::{Instant, TopicId};
use chronik_wire::ErrorCode;
use chronik_wire::messages::FetchRequest;
use parking_lot::Mutex;

/// A full cache gives up sessions unused for this long (`min.incremental.fetch.session.eviction.ms`).
const EVICTION_MIN: Duration = Duration::from_secs(120);
/// Partitions that one session remembers at most. A client that fetches more is served without a session, and at once: what
/// a waiting fetch wants is memory that nothing else bounds.
pub(crate) const PARTITIONS_MAX: usize = 100_000;
/// Up to here partitions are looked for one by one, which costs less than a table made for one request.
const SCANNED_MAX: usize = 16;
/// What all sessions together may take; names are counted, because a client may send any.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// The epoch that asks for a new session.
const EPOCH_INITIAL: i32 = 0;
/// The epoch that ends a session or wants none.
const EPOCH_FINAL: i32 = -1;

/// A topic as the client names it: by id from version 13 on, by name before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Id(TopicId),
    Name(Arc<str>),
}

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: i32,
}

impl Wanted {
    fn key(&self) -> (TopicKey, i32) {
        (self.topic.clone(), self.partition)
    }

    fn is_of_same(&self, other: &Self) -> bool {
        self.partition == other.partition && self.topic == other.topic
    }
}

/// What a response said last of a partition. A partition is left out while none of it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    high_watermark: i64,
    log_start: i64,
}

/// What the response is about to say of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saying {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    pub(crate) has_records: bool,
    /// An error or a diverging epoch.
    pub(crate) must_respond: bool,
    pub(crate) is_error: bool,
}

#[derive(Debug)]
struct Remembered {
    wanted: Wanted,
    said: Option<Said>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    partitions: Vec<Remembered>,
    last_used: Instant,
}

/// All sessions of the broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots_max: usize,
    bytes_max: usize,
    sessions: Mutex<Sessions>,
}

/// Sessions by id, and `bytes`, the sum of what they take.
#[derive(Debug, Default)]
struct Sessions {
    by_id: HashMap<i32, Session>,
    bytes: usize,
}

/// How a fetch takes part in a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Participation {
    /// No session: every partition is answered.
    None,
    /// A session was begun by this fetch: every partition is answered.
    Begun(i32),
    /// A session goes on: partitions without news are left out.
    Continued(i32),
}

impl Participation {
    pub(crate) fn session_id(&self) -> i32 {
        match self {
            Self::None => 0,
            Self::Begun(id) | Self::Continued(id) => *id,
        }
    }
}

impl FetchSessions {
    pub(crate) fn new(slots_max: usize) -> Self {
        Self { slots_max, bytes_max: BYTES_MAX, sessions: Mutex::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.lock().by_id.len()
    }

    /// What a request wants, in the order in which it is to be served.
    pub(crate) fn begin(
        &self,
        request: FetchRequest,
        by_id: bool,
        now: Instant,
    ) -> Result<(Participation, Vec<Wanted>), ErrorCode> {
        let (session_id, epoch) = (request.session_id, request.session_epoch);
        let mut sessions = self.sessions.lock();
        if epoch == EPOCH_FINAL || epoch == EPOCH_INITIAL {
            if session_id != 0 {
                sessions.remove(session_id);
            }
            let wanted = wanted(&request, by_id);
            if epoch == EPOCH_FINAL || wanted.is_empty() {
                return Ok((Participation::None, wanted));
            }
            let participation = match self.insert(&mut sessions, &wanted, by_id, now) {
                Some(id) => Participation::Begun(id),
                None => Participation::None,
            };
            return Ok((participation, wanted));
        }
        let sessions = &mut *sessions;
        let session = sessions.by_id.get_mut(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        // Most requests of a session change nothing.
        if !request.topics.is_empty() || !request.forgotten_topics_data.is_empty() {
            let before = session.bytes();
            session.update(&request);
            sessions.bytes = sessions.bytes - before + session.bytes();
            if session.partitions.len() > PARTITIONS_MAX || sessions.bytes > self.bytes_max {
                sessions.remove(session_id);
                return Err(ErrorCode::FetchSessionIdNotFound);
            }
        }
        if session.partitions.is_empty() {
            sessions.remove(session_id);
            return Ok((Participation::None, Vec::new()));
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.last_used = now;
        let wanted = session.partitions.iter().map(|remembered| remembered.wanted.clone()).collect();
        Ok((Participation::Continued(session_id), wanted))
    }

    /// Which of the partitions served, in the order of [`FetchSessions::begin`], the response must name.
    pub(crate) fn finish(&self, participation: &Participation, sayings: &[Saying]) -> Vec<bool> {
        let incremental = matches!(participation, Participation::Continued(_));
        let mut named = vec![!incremental; sayings.len()];
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.by_id.get_mut(&participation.session_id()) else {
            return vec![true; sayings.len()];
        };
        let mut with_records = false;
        for ((remembered, saying), named) in session.partitions.iter_mut().zip(sayings).zip(&mut named) {
            let said = Said { high_watermark: saying.high_watermark, log_start: saying.log_start };
            *named |= saying.has_records || saying.must_respond || remembered.said != Some(said);
            // After an error the next good answer is news again.
            remembered.said = (!saying.is_error).then_some(said);
            with_records |= saying.has_records;
        }
        if with_records && sayings.len() == session.partitions.len() {
            // Partitions that were served go last, so that a small response limit starves none.
            let (mut starved, mut served) = (Vec::new(), Vec::new());
            for (remembered, saying) in session.partitions.drain(..).zip(sayings) {
                if saying.has_records { served.push(remembered) } else { starved.push(remembered) }
            }
            starved.append(&mut served);
            session.partitions = starved;
        }
        named
    }

    /// Begins a session, unless there is no room for one. Sessions unused for long make room.
    fn insert(&self, sessions: &mut Sessions, wanted: &[Wanted], by_id: bool, now: Instant) -> Option<i32> {
        if wanted.len() > PARTITIONS_MAX {
            return None;
        }
        let partitions = wanted.iter().map(|wanted| Remembered { wanted: wanted.clone(), said: None }).collect();
        let session = Session { epoch: 1, by_id, partitions, last_used: now };
        let bytes = session.bytes();
        while sessions.by_id.len() >= self.slots_max || sessions.bytes + bytes > self.bytes_max {
            let (id, last_used) =
                sessions.by_id.iter().map(|(id, session)| (*id, session.last_used)).min_by_key(|(_, used)| *used)?;
            if now.saturating_since(last_used) < EVICTION_MIN {
                return None;
            }
            sessions.remove(id);
        }
        let mut id = 0;
        while id == 0 || sessions.by_id.contains_key(&id) {
            // Ids are not secret, they only must not be met by a client's stale one.
            id = i32::try_from(RandomState::new().hash_one(sessions.by_id.len()) >> 33).unwrap_or(0);
        }
        sessions.bytes += bytes;
        sessions.by_id.insert(id, session);
        Some(id)
    }
}

impl Sessions {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.by_id.remove(&id) {
            self.bytes -= session.bytes();
        }
    }
}

impl Session {
    /// What it takes, nearly: the name of a topic is counted with each of its partitions.
    fn bytes(&self) -> usize {
        let name = |remembered: &Remembered| match &remembered.wanted.topic {
            TopicKey::Id(_) => 0,
            TopicKey::Name(name) => name.len(),
        };
        self.partitions.iter().map(|remembered| size_of::<Remembered>() + name(remembered)).sum()
    }

    fn update(&mut self, request: &FetchRequest) {
        let changed = wanted(request, self.by_id);
        let is_scanned = changed.is_empty() || changed.len().max(self.partitions.len()) <= SCANNED_MAX;
        let places = self.partitions.iter().enumerate().map(|(at, remembered)| (remembered.wanted.key(), at));
        let mut table: Option<HashMap<_, _>> = (!is_scanned).then(|| places.collect());
        for wanted in changed {
            let next = self.partitions.len();
            let at = match &mut table {
                Some(table) => *table.entry(wanted.key()).or_insert(next),
                None => {
                    let same = |remembered: &Remembered| remembered.wanted.is_of_same(&wanted);
                    self.partitions.iter().position(same).unwrap_or(next)
                }
            };
            match self.partitions.get_mut(at) {
                Some(remembered) => remembered.wanted = wanted,
                None => self.partitions.push(Remembered { wanted, said: None }),
            }
        }
        if !request.forgotten_topics_data.is_empty() {
            let mut forgotten = HashSet::new();
            for topic in &request.forgotten_topics_data {
                let key = topic_key(self.by_id, &topic.topic, topic.topic_id);
                forgotten.extend(topic.partitions.iter().map(|partition| (key.clone(), *partition)));
            }
            self.partitions.retain(|remembered| !forgotten.contains(&remembered.wanted.key()));
        }
    }
}

fn topic_key(by_id: bool, name: &str, id: chronik_wire::Uuid) -> TopicKey {
    if by_id { TopicKey::Id(TopicId(id)) } else { TopicKey::Name(name.into()) }
}

fn wanted(request: &FetchRequest, by_id: bool) -> Vec<Wanted> {
    let mut all = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in &request.topics {
        let key = topic_key(by_id, &topic.topic, topic.topic_id);
        all.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: key.clone(),
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use chronik_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

    use super::*;

    fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let partitions: Vec<_> = partitions
            .iter()
            .map(|(partition, fetch_offset)| FetchPartition {
                partition: *partition,
                fetch_offset: *fetch_offset,
                ..Default::default()
            })
            .collect();
        let topics = if partitions.is_empty() {
            Vec::new()
        } else {
            vec![FetchTopic { topic: "t".to_owned(), partitions, ..Default::default() }]
        };
        FetchRequest { session_id, session_epoch, topics, ..Default::default() }
    }

    fn saying(high_watermark: i64, has_records: bool) -> Saying {
        Saying { high_watermark, log_start: 0, has_records, must_respond: false, is_error: false }
    }

    fn order(wanted: &[Wanted]) -> Vec<(i32, i64)> {
        wanted.iter().map(|w| (w.partition, w.fetch_offset)).collect()
    }

    fn begun(sessions: &FetchSessions, partitions: &[(i32, i64)]) -> i32 {
        match sessions.begin(request(0, 0, partitions), false, Instant::ORIGIN) {
            Ok((Participation::Begun(id), _)) => id,
            other => panic!("no session begun: {other:?}"),
        }
    }

    #[test]
    fn an_incremental_response_names_only_partitions_with_news() {
        let sessions = FetchSessions::new(10);
        let id = begun(&sessions, &[(0, 0), (1, 0)]);
        let all = sessions.finish(&Participation::Begun(id), &[saying(5, false), saying(7, false)]);
        assert_eq!(all, [true, true]);
        let (participation, wanted) = sessions.begin(request(id, 1, &[]), false, Instant::ORIGIN).unwrap();
        assert_eq!((&participation, order(&wanted)), (&Participation::Continued(id), vec![(0, 0), (1, 0)]));
        assert_eq!(sessions.finish(&participation, &[saying(5, false), saying(8, false)]), [false, true]);
    }

    #[test]
    fn a_session_that_would_remember_too_much_ends() {
        let sessions = FetchSessions::new(10);
        let id = begun(&sessions, &[(0, 0)]);
        let many: Vec<(i32, i64)> = (1..).map(|partition| (partition, 0)).take(PARTITIONS_MAX).collect();
        let refused = sessions.begin(request(id, 1, &many), false, Instant::ORIGIN);
        assert_eq!(refused.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(sessions.len(), 0);
        let all: Vec<(i32, i64)> = (0..).map(|partition| (partition, 0)).take(PARTITIONS_MAX + 1).collect();
        let (participation, wanted) = sessions.begin(request(0, 0, &all), false, Instant::ORIGIN).unwrap();
        assert_eq!((participation, wanted.len()), (Participation::None, PARTITIONS_MAX + 1));
    }

    #[test]
    fn all_sessions_together_take_a_bounded_number_of_bytes() {
        let each = size_of::<Remembered>() + 1;
        let sessions = FetchSessions { bytes_max: 10 * each, ..FetchSessions::new(100) };
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let four = [(0, 0), (1, 0), (2, 0), (3, 0)];
        let remembered = || {
            let held = sessions.sessions.lock();
            assert_eq!(held.bytes, held.by_id.values().map(Session::bytes).sum::<usize>());
            held.bytes / each
        };
        let first = begun(&sessions, &four);
        let second = begun(&sessions, &four);
        let (third, wanted) = sessions.begin(request(0, 0, &four), false, at(60)).unwrap();
        assert_eq!((third, wanted.len(), remembered()), (Participation::None, 4, 8));
        // One that grows too much ends, and its client begins anew.
        let grown = sessions.begin(request(first, 1, &[(4, 0), (5, 0), (6, 0)]), false, at(60));
        assert_eq!((grown.unwrap_err(), remembered()), (ErrorCode::FetchSessionIdNotFound, 4));
        let (again, _) = sessions.begin(request(0, 0, &four), false, at(61)).unwrap();
        assert!(matches!(again, Participation::Begun(_)));
        // The one unused for long makes room, and a name takes room, too.
        let mut long = request(0, 0, &[(0, 0)]);
        long.topics[0].topic = "t".repeat(7 * each);
        let (none, _) = sessions.begin(long, false, at(119)).unwrap();
        assert_eq!((none, remembered()), (Participation::None, 8));
        let (late, _) = sessions.begin(request(0, 0, &four), false, at(121)).unwrap();
        assert!(matches!(late, Participation::Begun(_)));
        let gone = sessions.begin(request(second, 1, &[]), false, at(121));
        assert_eq!((gone.unwrap_err(), remembered()), (ErrorCode::FetchSessionIdNotFound, 8));
    }

    #[test]
    fn served_partitions_go_last() {
        let sessions = FetchSessions::new(10);
        let id = begun(&sessions, &[(0, 0), (1, 0), (2, 0)]);
        sessions.finish(&Participation::Begun(id), &[saying(5, true), saying(5, false), saying(5, true)]);
        let (_, wanted) = sessions.begin(request(id, 1, &[(0, 5)]), false, Instant::ORIGIN).unwrap();
        assert_eq!(order(&wanted), [(1, 0), (0, 5), (2, 0)]);
    }

    #[test]
    fn wrong_session_and_wrong_epoch_are_told_apart() {
        let sessions = FetchSessions::new(10);
        let id = begun(&sessions, &[(0, 0)]);
        let refused = |session_id, epoch| {
            sessions.begin(request(session_id, epoch, &[]), false, Instant::ORIGIN).map(|_| ()).unwrap_err()
        };
        assert_eq!(refused(id ^ 1, 1), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(refused(id, 2), ErrorCode::InvalidFetchSessionEpoch);
        assert!(sessions.begin(request(id, 1, &[]), false, Instant::ORIGIN).is_ok());
        assert_eq!(refused(id, 1), ErrorCode::InvalidFetchSessionEpoch);
        let by_id = sessions.begin(request(id, 2, &[]), true, Instant::ORIGIN).unwrap_err();
        assert_eq!(by_id, ErrorCode::FetchSessionTopicIdError);
    }

    #[test]
    fn a_session_whose_last_partition_is_forgotten_ends() {
        let sessions = FetchSessions::new(10);
        let id = begun(&sessions, &[(0, 0)]);
        let mut forget = request(id, 1, &[]);
        forget.forgotten_topics_data =
            vec![ForgottenTopic { topic: "t".to_owned(), partitions: vec![0], ..Default::default() }];
        let (participation, wanted) = sessions.begin(forget, false, Instant::ORIGIN).unwrap();
        assert_eq!((participation, wanted.len(), sessions.len()), (Participation::None, 0, 0));
    }

    #[test]
    fn a_full_cache_evicts_only_what_was_unused_for_long() {
        let sessions = FetchSessions::new(1);
        let id = begun(&sessions, &[(0, 0)]);
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let (early, _) = sessions.begin(request(0, 0, &[(0, 0)]), false, at(60)).unwrap();
        assert_eq!(early, Participation::None);
        let (late, _) = sessions.begin(request(0, 0, &[(0, 0)]), false, at(121)).unwrap();
        assert!(matches!(late, Participation::Begun(other) if other != id));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn an_error_is_named_and_so_is_the_recovery_from_it() {
        let sessions = FetchSessions::new(10);
        let id = begun(&sessions, &[(0, 0)]);
        sessions.finish(&Participation::Begun(id), &[saying(5, false)]);
        let next = |epoch| sessions.begin(request(id, epoch, &[]), false, Instant::ORIGIN).unwrap().0;
        let error = Saying { must_respond: true, is_error: true, ..saying(-1, false) };
        assert_eq!(sessions.finish(&next(1), &[error]), [true]);
        assert_eq!(sessions.finish(&next(2), &[saying(5, false)]), [true]);
        assert_eq!(sessions.finish(&next(3), &[saying(5, false)]), [false]);
    }
}
