//! Between the bus's messages and the domain: every field of a request is checked here.

use std::time::Duration;

use domain::{
    fault::Fault,
    units::Bytes,
    vram::{Ask, Denial, Holder, Lease, Leases, Priority, Token, Told, Ttl, Wanted, Worth},
};
use prost::Message;
use wire::v1;

/// Processes that a holder may name.
const PIDS_MAX: usize = 16;

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Acquire(Ask),
    Renew { token: Token, fence: Token, told: Told },
    Release { token: Token, fence: Token },
    List,
}

/// Decodes and checks a payload.
pub(crate) fn decode(payload: &[u8]) -> Result<Call, Fault> {
    let request = v1::LeaseRequest::decode(payload).map_err(|error| {
        let message = format!("the payload of {} bytes is no llm.v1.LeaseRequest: {error}", payload.len());
        Fault::invalid("", message)
    })?;
    use v1::lease_request::Action;
    match request.action {
        Some(Action::Acquire(acquire)) => ask(acquire).map(Call::Acquire),
        Some(Action::Renew(renew)) => {
            let token = token(&renew.lease_id)?;
            let pids = pids("renew.pids", renew.pids)?;
            let worth = renew.worth.map(|told| worth("renew.worth.use_permille", told)).transpose()?;
            Ok(Call::Renew { token, fence: Token::new(renew.fencing_token), told: Told { pids, worth } })
        }
        Some(Action::Release(release)) => {
            let token = token(&release.lease_id)?;
            Ok(Call::Release { token, fence: Token::new(release.fencing_token) })
        }
        Some(Action::List(_)) => Ok(Call::List),
        None => Err(Fault::invalid("action", "action is missing, expected acquire, renew, release or list")),
    }
}

fn ask(acquire: v1::LeaseAcquire) -> Result<Ask, Fault> {
    let holder = Holder::new(acquire.holder)?;
    if acquire.bytes == 0 {
        return Err(Fault::invalid("acquire.bytes", "acquire.bytes is 0, expected more than 0"));
    }
    let priority = match v1::LeasePriority::try_from(acquire.priority) {
        Ok(v1::LeasePriority::Training) => Priority::Training,
        Ok(v1::LeasePriority::Image) => Priority::Image,
        Ok(v1::LeasePriority::Embedding) => Priority::Embedding,
        Ok(v1::LeasePriority::Speech) => Priority::Speech,
        Ok(v1::LeasePriority::Inference) => Priority::Inference,
        Ok(v1::LeasePriority::Unspecified) | Err(_) => {
            let message = format!("acquire.priority is {}, expected 1 to 5", acquire.priority);
            return Err(Fault::invalid("acquire.priority", message));
        }
    };
    let ttl = match acquire.ttl_ms {
        0 => Ttl::default(),
        ms => Ttl::new(Duration::from_millis(ms)).ok_or_else(|| {
            let message = format!("acquire.ttl_ms is {ms}, expected 500 to 60000, or 0 for 3000");
            Fault::invalid("acquire.ttl_ms", message)
        })?,
    };
    let wanted = if acquire.gpu { Wanted::Gpu } else { Wanted::System };
    let pids = pids("acquire.pids", acquire.pids)?;
    let told = acquire.worth.unwrap_or_default();
    Ok(Ask {
        holder,
        bytes: Bytes::new(acquire.bytes),
        priority,
        ttl,
        wanted,
        pids,
        worth: worth("acquire.worth.use_permille", told)?,
        anytime: acquire.anytime,
    })
}

fn worth(field: &'static str, told: v1::LeaseWorth) -> Result<Worth, Fault> {
    let use_permille = u16::try_from(told.use_permille).ok().filter(|permille| *permille <= 1_000);
    let use_permille = use_permille.ok_or_else(|| {
        Fault::invalid(field, format!("{field} is {}, expected at most 1000", told.use_permille))
    })?;
    let known = |milliseconds: u64| (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
    Ok(Worth {
        reload: known(told.reload_ms),
        idle: known(told.idle_ms),
        use_permille: (use_permille > 0).then_some(use_permille),
        pinned: told.pinned,
    })
}

fn told(worth: &Worth, told_ago: Duration) -> v1::LeaseWorth {
    let milliseconds =
        |it: Option<Duration>| it.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
    v1::LeaseWorth {
        reload_ms: milliseconds(worth.reload),
        idle_ms: milliseconds(worth.idle_for(told_ago)),
        use_permille: worth.use_permille.map_or(0, u32::from),
        pinned: worth.pinned,
    }
}

fn token(lease_id: &str) -> Result<Token, Fault> {
    Token::from_lease_id(lease_id).ok_or_else(|| {
        let start: String = lease_id.chars().take(80).collect();
        Fault::invalid(
            "lease_id",
            format!("lease_id is {start:?}, expected lease-<number> as it was granted"),
        )
    })
}

fn pids(field: &'static str, pids: Vec<u32>) -> Result<Vec<u32>, Fault> {
    if pids.len() > PIDS_MAX {
        let message = format!("{field} has {} entries, expected at most {PIDS_MAX}", pids.len());
        return Err(Fault::invalid(field, message));
    }
    if pids.contains(&0) {
        return Err(Fault::invalid(field, format!("{field} holds 0, expected process ids")));
    }
    Ok(pids)
}

/// The answer to a grant or a renewal.
pub(crate) fn granted(leases: &Leases, lease: &Lease, now: Duration) -> v1::LeaseReply {
    reply(v1::lease_reply::Result::Granted(message(leases, lease, now)))
}

/// The answer to a release and to a list.
pub(crate) fn listed(leases: &Leases, now: Duration) -> v1::LeaseReply {
    let summary = leases.summary();
    reply(v1::lease_reply::Result::List(v1::LeaseList {
        leases: leases.held().iter().map(|lease| message(leases, lease, now)).collect(),
        capacity_bytes: summary.capacity.get(),
        free_bytes: summary.free.get(),
    }))
}

/// The answer to everything that was not understood, or cannot be looked at now.
pub(crate) fn refused(fault: Fault) -> v1::LeaseReply {
    reply(v1::lease_reply::Result::Error(fault.into()))
}

/// The answer to what was decided against.
pub(crate) fn denied(denial: Denial) -> v1::LeaseReply {
    let cheapest = denial.cheapest().iter().map(|holder| holder.as_str().to_owned()).collect();
    let missing_bytes = denial.missing().map_or(0, Bytes::get);
    v1::LeaseReply { cheapest, missing_bytes, ..refused(denial.into()) }
}

fn reply(result: v1::lease_reply::Result) -> v1::LeaseReply {
    v1::LeaseReply { result: Some(result), ..v1::LeaseReply::default() }
}

fn message(leases: &Leases, lease: &Lease, now: Duration) -> v1::Lease {
    let priority = match lease.priority {
        Priority::Training => v1::LeasePriority::Training,
        Priority::Image => v1::LeasePriority::Image,
        Priority::Embedding => v1::LeasePriority::Embedding,
        Priority::Speech => v1::LeasePriority::Speech,
        Priority::Inference => v1::LeasePriority::Inference,
    };
    let left = lease.expires_at.saturating_sub(now);
    v1::Lease {
        lease_id: lease.token.lease_id(),
        fencing_token: lease.token.get(),
        holder: lease.holder.as_str().to_owned(),
        bytes: lease.bytes.get(),
        priority: priority.into(),
        expires_in_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        gpu_index: leases.gpu_index(lease),
        gives_way_to: lease.gives_way_to.clone().unwrap_or_default(),
        worth: Some(told(&lease.worth, now.saturating_sub(lease.told_at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::fault::Code;
    use v1::lease_request::Action;

    fn acquire() -> v1::LeaseAcquire {
        v1::LeaseAcquire {
            holder: "pool/tiny".to_owned(),
            bytes: 1,
            priority: v1::LeasePriority::Inference.into(),
            ttl_ms: 0,
            gpu: true,
            pids: vec![4],
            ..v1::LeaseAcquire::default()
        }
    }

    fn check(action: Option<Action>) -> Result<Call, Fault> {
        decode(&v1::LeaseRequest { action }.encode_to_vec())
    }

    #[test]
    fn a_request_becomes_an_ask_with_the_defaults_filled_in() {
        let Ok(Call::Acquire(ask)) = check(Some(Action::Acquire(acquire()))) else { panic!("refused") };
        assert_eq!((ask.ttl, ask.wanted), (Ttl::default(), Wanted::Gpu));
        assert_eq!(check(Some(Action::List(true))).unwrap(), Call::List);
    }

    #[test]
    fn each_bad_field_is_named_with_its_value() {
        let renew = |lease_id: &str| v1::LeaseRenew { lease_id: lease_id.to_owned(), ..Default::default() };
        let likely = v1::LeaseWorth { use_permille: 1_001, ..Default::default() };
        let cases = [
            ("acquire.holder", Action::Acquire(v1::LeaseAcquire { holder: String::new(), ..acquire() })),
            ("acquire.holder", Action::Acquire(v1::LeaseAcquire { holder: "x".repeat(129), ..acquire() })),
            ("acquire.bytes", Action::Acquire(v1::LeaseAcquire { bytes: 0, ..acquire() })),
            ("acquire.priority", Action::Acquire(v1::LeaseAcquire { priority: 0, ..acquire() })),
            ("acquire.priority", Action::Acquire(v1::LeaseAcquire { priority: 9, ..acquire() })),
            ("acquire.ttl_ms", Action::Acquire(v1::LeaseAcquire { ttl_ms: 499, ..acquire() })),
            ("acquire.ttl_ms", Action::Acquire(v1::LeaseAcquire { ttl_ms: 60_001, ..acquire() })),
            ("acquire.pids", Action::Acquire(v1::LeaseAcquire { pids: vec![1; 17], ..acquire() })),
            ("acquire.pids", Action::Acquire(v1::LeaseAcquire { pids: vec![0], ..acquire() })),
            (
                "acquire.worth.use_permille",
                Action::Acquire(v1::LeaseAcquire { worth: Some(likely), ..acquire() }),
            ),
            (
                "renew.worth.use_permille",
                Action::Renew(v1::LeaseRenew { worth: Some(likely), ..renew("lease-1") }),
            ),
            ("lease_id", Action::Renew(renew("lease-1x"))),
            ("renew.pids", Action::Renew(v1::LeaseRenew { pids: vec![0], ..renew("lease-1") })),
            ("lease_id", Action::Release(v1::LeaseRelease::default())),
        ];
        for (field, action) in cases {
            let fault = check(Some(action.clone())).unwrap_err();
            assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, field), "{action:?}");
            assert!(fault.message.starts_with(field) && fault.message.contains("expected"), "{fault}");
        }
        assert_eq!(check(None).unwrap_err().field, "action");
    }

    #[test]
    fn bytes_that_are_no_request_are_a_typed_error() {
        let fault = decode(&[0xff; 12]).unwrap_err();
        assert_eq!(fault.code, Code::InvalidArgument);
        assert!(fault.message.contains("12 bytes"), "{fault}");
    }
}
