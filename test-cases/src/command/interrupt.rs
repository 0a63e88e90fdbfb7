//! Ctrl-C: the first one lets the run end in order, reports written; the second ends at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Failed;

/// A flag that SIGINT and SIGTERM set.
pub fn flag() -> Result<Arc<AtomicBool>, Failed> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failed::new(format!("preparing for Ctrl-C: {error}")))?;
    }
    Ok(flag)
}
