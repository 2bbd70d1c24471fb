//! One member of a classic group, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::MemberMetadata;
use crate::message::{DescribedMember, JoinMember, JoinProtocol};
use crate::runtime::{AppendToken, ReplyToken};

#[derive(Debug)]
pub(crate) struct Member {
    pub(super) id: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// Most liked first, each name once.
    pub(super) protocols: Vec<JoinProtocol>,
    /// What the last finished rebalance gave the member.
    pub(super) assignment: Bytes,
    /// The member has not finished a join phase yet. It cannot send heartbeats, so silence is no sign of life even
    /// while its JoinGroup waits.
    pub(super) is_new: bool,
    /// The JoinGroup that waits for the join phase to end. Changed through the group, which counts them.
    pub(super) awaiting_join: Option<ReplyToken>,
    /// The SyncGroup that waits for the leader's.
    pub(super) awaiting_sync: Option<ReplyToken>,
    /// The append the member's last answer waits for: until it is committed the member cannot send heartbeats.
    pub(super) awaiting_append: Option<AppendToken>,
}

impl Member {
    pub(super) fn metadata(&self, protocol_name: &str) -> Bytes {
        let protocol = self.protocols.iter().find(|protocol| protocol.name == protocol_name);
        protocol.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn as_record(&self, protocol_name: &str) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: millis(self.rebalance_timeout),
            session_timeout_ms: millis(self.session_timeout),
            subscription: self.metadata(protocol_name),
            assignment: self.assignment.clone(),
        }
    }

    pub(super) fn from_record(record: MemberMetadata, protocol_name: Option<&str>) -> Self {
        let name = protocol_name.unwrap_or_default().to_owned();
        Self {
            id: record.member_id.into(),
            instance_id: record.instance_id.map(Arc::from),
            client_id: record.client_id,
            client_host: record.client_host,
            session_timeout: duration(record.session_timeout_ms),
            rebalance_timeout: duration(record.rebalance_timeout_ms),
            protocols: vec![JoinProtocol { name, metadata: record.subscription }],
            assignment: record.assignment,
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
            awaiting_append: None,
        }
    }

    pub(super) fn as_joined(&self, protocol_name: &str) -> JoinMember {
        JoinMember {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            metadata: self.metadata(protocol_name),
        }
    }

    pub(super) fn describe(&self, protocol_name: Option<&str>) -> DescribedMember {
        DescribedMember {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol_name.map(|name| self.metadata(name)).unwrap_or_default(),
            assignment: self.assignment.clone(),
        }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
