//! The live view.

/// Shows the live view until the user leaves.
pub async fn run(mut snapshots: tokio::sync::watch::Receiver<std::sync::Arc<crate::snapshot::Snapshot>>) -> std::io::Result<()> {
    while snapshots.changed().await.is_ok() {}
    Ok(())
}
