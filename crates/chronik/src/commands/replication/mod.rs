//! `chronik replication`: what followers have, and whether two nodes have the same.

mod compare;
mod status;
mod verify;

use super::Stop;
use crate::cli::Replication;

pub(crate) async fn run(command: Replication, variables: &[(String, String)]) -> Result<(), Stop> {
    match command {
        Replication::Status(command) => status::run(command).await,
        Replication::Verify(command) => verify::run(command, variables).await,
    }
}
