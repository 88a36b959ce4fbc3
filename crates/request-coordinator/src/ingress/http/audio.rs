//! `POST /v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/audio/speech`.

mod form;
mod speech;
mod transcript;
mod transcription;

pub(super) use speech::speech;
pub(super) use transcription::{transcriptions, translations};

use std::sync::Arc;

use domain::{
    fault::{Code, Fault, Origin},
    inference::AUDIO_BYTES_MAX,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a form may have beside its file: boundaries, and fields such as a prompt.
const FIELDS_BYTES_MAX: usize = 1024 * 1024;
/// Largest body of a form.
pub(super) const FORM_BYTES_MAX: usize = AUDIO_BYTES_MAX + FIELDS_BYTES_MAX;
/// What all forms under way may take in memory.
const ROOM_BYTES: usize = 256 * 1024 * 1024;
/// Room is given out in units of so many bytes.
const UNIT_BYTES: usize = 1024;

/// Memory for audio that is on its way to its executor: a few hundred uploads must not be the end of the process.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES / UNIT_BYTES)))
    }
}

impl Room {
    /// Room for a body of announced length; of none, for the largest.
    ///
    /// # Errors
    /// `PayloadTooLarge`, before anything is read; `Busy`, when others have the room.
    fn take(&self, announced: Option<usize>) -> Result<OwnedSemaphorePermit, Fault> {
        let bytes = announced.unwrap_or(FORM_BYTES_MAX);
        if bytes > FORM_BYTES_MAX {
            return Err(too_large());
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(units).map_err(|_| {
            let message = "as much audio as fits is on its way already";
            Fault::new(Code::Busy, Origin::Policy, true, message).after(std::time::Duration::from_secs(1))
        })
    }
}

fn too_large() -> Fault {
    let message = format!("file is larger than {AUDIO_BYTES_MAX} bytes (25 MiB), the most that is taken");
    Fault::new(Code::PayloadTooLarge, Origin::Caller, false, message).in_field("file")
}

/// Appends one server-sent event.
fn event(out: &mut Vec<u8>, value: &serde_json::Value) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_under_way_is_bounded_in_bytes() {
        let room = Room::default();
        assert_eq!(room.take(Some(FORM_BYTES_MAX + 1)).unwrap_err().code, Code::PayloadTooLarge);
        let taken: Vec<_> = std::iter::from_fn(|| room.take(None).ok()).collect();
        assert_eq!(taken.len(), ROOM_BYTES / FORM_BYTES_MAX);
        assert_eq!(room.take(None).unwrap_err().code, Code::Busy);
        drop(taken);
        assert!(room.take(None).is_ok());
    }
}
