//! Leadership through a Lease: a pure decision, and one conditional write.
//!
//! Time is measured since *we* last saw the Lease change, on our own monotonic clock (as client-go
//! does), so that skew between nodes cannot make a live Lease look expired. Who cannot renew in
//! time ends the process: a second leader must find nobody.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::client::said;

/// How long a Lease is good for that nobody renews.
pub const TERM: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at by who waits.
pub const RENEW: Duration = Duration::from_secs(5);
/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const CALL: Duration = Duration::from_secs(3);
/// How long the holder goes on without a renewal: one more attempt would end a second before the
/// term does, and another may begin.
const GIVE_UP: Duration = Duration::from_secs(10);

/// For how long after a renewal was asked for nobody else can hold it.
const SURE: Duration = Duration::from_secs(14);

/// Whether this process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Another does, or nobody.
    No,
    /// It does, surely until then: a process that slept must not write before it has looked at the
    /// Lease again.
    Until(Instant),
    /// There is no election.
    Always,
}

impl Leads {
    /// Whether it leads at this moment.
    #[must_use]
    pub fn now(self) -> bool {
        match self {
            Self::No => false,
            Self::Until(at) => Instant::now() < at,
            Self::Always => true,
        }
    }
}

/// What one look at the Lease calls for.
#[derive(Debug, PartialEq, Eq)]
pub enum Move {
    /// There is none: create it.
    Create,
    /// It is free, or expired: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another holds it.
    Wait,
}

/// What to do about the Lease; `unchanged` is how long it has not changed, as seen from here.
#[must_use]
pub fn decide(lease: Option<&Lease>, me: &str, unchanged: Duration) -> Move {
    let Some(lease) = lease else { return Move::Create };
    let spec = lease.spec.as_ref();
    let term = spec
        .and_then(|s| s.lease_duration_seconds)
        .and_then(|s| u64::try_from(s).ok())
        .map_or(TERM, Duration::from_secs);
    match spec.and_then(|s| s.holder_identity.as_deref()) {
        Some(holder) if holder == me => Move::Renew,
        Some(holder) if !holder.is_empty() && unchanged < term => Move::Wait,
        _ => Move::Take,
    }
}

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another has it.
    #[error("renew the Lease {0}: another process holds it now; this one ends")]
    Lost(String),
    /// The API server did not take the renewal in time.
    #[error(
        "renew the Lease {0}: no renewal succeeded for {GIVE_UP:?}; this process ends before another begins"
    )]
    Expired(String),
}

/// One who wants to lead.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    seen: Option<(String, Instant)>,
}

impl Elector {
    /// `me` names this process, as no other process is named.
    #[must_use]
    pub fn new(api: Api<Lease>, name: impl Into<String>, me: impl Into<String>) -> Self {
        Self { api, name: name.into(), me: me.into(), seen: None }
    }

    /// One attempt; true when this process holds the Lease now.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn attempt(&mut self) -> kube::Result<bool> {
        let have = self.api.get_opt(&self.name).await?;
        let version =
            have.as_ref().and_then(|l| l.metadata.resource_version.clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(v, _)| *v != version) {
            self.seen = Some((version, Instant::now()));
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, t)| t.elapsed());
        let wrote = match decide(have.as_ref(), &self.me, unchanged) {
            Move::Wait => return Ok(false),
            Move::Create => {
                let metadata =
                    ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api
                    .create(
                        &PostParams::default(),
                        &Lease { metadata, spec: Some(self.spec(None)) },
                    )
                    .await
            }
            Move::Take | Move::Renew => {
                let mut lease = have.unwrap_or_default();
                lease.spec = Some(self.spec(lease.spec.take()));
                // It carries the resourceVersion that was read: a lost race is a 409, never two
                // leaders.
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match wrote {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, old: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let old = old.unwrap_or_default();
        let mine = old.holder_identity.as_deref() == Some(&self.me);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
            renew_time: Some(now.clone()),
            acquire_time: if mine { old.acquire_time } else { Some(now) },
            lease_transitions: Some(
                old.lease_transitions.unwrap_or(0).saturating_add(i32::from(!mine)),
            ),
            ..old
        }
    }

    /// Gives the Lease up, so that another need not wait for it to expire.
    async fn release(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let Some(spec) =
            lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.me))
        else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
    }

    /// Waits for the Lease, says so through `leads`, renews it until `stop`, and gives it up then.
    ///
    /// # Errors
    /// When it was held and is lost: the process must end.
    pub async fn hold(
        mut self,
        leads: &tokio::sync::watch::Sender<Leads>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut renewed: Option<Instant> = None;
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            wait = RENEW;
            // The Lease is good from before the call: what comes after its answer is not ours to
            // count.
            let asked = Instant::now();
            match tokio::time::timeout(CALL, self.attempt()).await {
                Ok(Ok(true)) => {
                    leads.send_replace(Leads::Until(asked + SURE));
                    if renewed.replace(asked).is_none() {
                        info!(lease = self.name, me = self.me, "leads");
                    }
                }
                Ok(Ok(false)) if renewed.is_some() => return Err(Error::Lost(self.name)),
                Ok(Ok(false)) => debug!(lease = self.name, "another process leads"),
                Ok(Err(error)) => {
                    warn!(
                        lease = self.name,
                        error = said(&error),
                        "the Lease could not be read or written"
                    );
                    wait = AGAIN;
                }
                Err(_) => {
                    warn!(lease = self.name, "the API server does not answer about the Lease");
                    wait = AGAIN;
                }
            }
            if renewed.is_some_and(|at| at.elapsed() > GIVE_UP) {
                return Err(Error::Expired(self.name));
            }
        }
        if renewed.is_some() {
            let released = tokio::time::timeout(Duration::from_secs(1), self.release()).await;
            info!(lease = self.name, released = matches!(released, Ok(Ok(()))), "leads no longer");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: &str) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(by.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn each_look_calls_for_one_move() {
        let s = Duration::from_secs;
        for (lease, unchanged, expected) in [
            (None, s(0), Move::Create),
            (Some(held("a")), s(99), Move::Renew),
            (Some(held("b")), s(14), Move::Wait),
            (Some(held("b")), s(15), Move::Take),
            (Some(held("")), s(0), Move::Take),
            (Some(Lease::default()), s(0), Move::Take),
        ] {
            assert_eq!(
                decide(lease.as_ref(), "a", unchanged),
                expected,
                "{lease:?} after {unchanged:?}"
            );
        }
    }
}
