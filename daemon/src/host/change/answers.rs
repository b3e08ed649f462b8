//! What became of a mount's changes: each is done once, however often it is asked.
//!
//! A number is begun by the first arrival that has all its bytes. Another arrival waits for the answer, or
//! gets it at once; the mount says (`settled`) up to where it needs none any more, and those are forgotten.
//! A change that was begun runs to its end whoever still listens, so its answer comes unless the host ends.
//!
//! Lock: `table`, leaf.

use super::super::limits::ANSWERS_MAX;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use wormhole_protocol::{Fault, Reply, Seq};

type Answer = watch::Receiver<Option<Reply>>;

/// The answers of one mount.
#[derive(Debug, Default)]
pub(in super::super) struct Answers {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    settled: Seq,
    begun: BTreeMap<Seq, Answer>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            settled: Seq(0),
            begun: BTreeMap::new(),
        }
    }
}

/// What is known of a change that arrives.
pub(super) enum Arrival {
    /// Nothing: it is to be done.
    New,
    /// It was begun before.
    Known(Pending),
}

/// The answer to a change that was begun, now or later.
pub(super) struct Pending(Answer);

impl Pending {
    /// Waits for it.
    pub(super) async fn answer(mut self) -> Reply {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reply)) => reply.clone(),
            // Whoever was doing it is gone without an answer: the host is ending.
            _ => Reply::Fault(Fault::Closing),
        }
    }
}

impl Answers {
    /// A change has arrived, and the mount has settled all before `settled`.
    ///
    /// # Errors
    /// [`Fault::Settled`] if it is one of those.
    pub(super) fn arrive(&self, seq: Seq, settled: Seq) -> Result<Arrival, Fault> {
        let mut table = self.table.lock();
        table.settle(settled);
        if seq < table.settled {
            return Err(Fault::Settled);
        }
        Ok(match table.begun.get(&seq) {
            Some(answer) => Arrival::Known(Pending(answer.clone())),
            None => Arrival::New,
        })
    }

    /// Begins a change, unless another arrival did.
    ///
    /// # Errors
    /// [`Fault::Settled`]; [`Fault::Exhausted`] if the mount settles too little.
    pub(super) fn begin(self: &Arc<Self>, seq: Seq) -> Result<(Option<Duty>, Pending), Fault> {
        let mut table = self.table.lock();
        if seq < table.settled {
            return Err(Fault::Settled);
        }
        if let Some(answer) = table.begun.get(&seq) {
            return Ok((None, Pending(answer.clone())));
        }
        if table.begun.len() >= ANSWERS_MAX {
            return Err(Fault::Exhausted);
        }
        let (done, answer) = watch::channel(None);
        table.begun.insert(seq, answer.clone());
        let duty = Duty {
            answers: self.clone(),
            seq,
            done,
        };
        Ok((Some(duty), Pending(answer)))
    }
}

impl Table {
    fn settle(&mut self, settled: Seq) {
        if settled <= self.settled {
            return;
        }
        self.settled = settled;
        // One that still runs counts until it has ended: so many can be under way, and no more.
        let below = self.begun.range(..settled);
        let over: Vec<_> = below.filter(|(_, a)| ended(a)).map(|(s, _)| *s).collect();
        for seq in over {
            self.begun.remove(&seq);
        }
    }
}

fn ended(answer: &Answer) -> bool {
    answer.borrow().is_some()
}

/// A change to be done, and answered.
pub(super) struct Duty {
    answers: Arc<Answers>,
    seq: Seq,
    done: watch::Sender<Option<Reply>>,
}

impl Duty {
    /// It is done.
    pub(super) fn answer(self, reply: Reply) {
        self.done.send_replace(Some(reply));
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        let mut table = self.answers.table.lock();
        // Without an answer it is as if it had never been begun; with one nobody wants, as if settled.
        if self.done.borrow().is_none() || self.seq < table.settled {
            table.begun.remove(&self.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn begin(answers: &Arc<Answers>, seq: u64) -> Duty {
        answers
            .begin(Seq(seq))
            .unwrap()
            .0
            .expect("not begun before")
    }

    fn known(answers: &Answers, seq: u64, settled: u64) -> Option<Reply> {
        match answers.arrive(Seq(seq), Seq(settled)) {
            Ok(Arrival::Known(pending)) => pending.answer().now_or_never(),
            _ => None,
        }
    }

    #[test]
    fn an_answer_is_kept_until_it_is_settled() {
        let answers = Arc::<Answers>::default();
        let duty = begin(&answers, 7);
        assert!(answers.begin(Seq(7)).unwrap().0.is_none());
        assert!(known(&answers, 7, 7).is_none(), "not yet");
        duty.answer(Reply::Done);
        assert_eq!(known(&answers, 7, 7), Some(Reply::Done));
        assert!(matches!(answers.arrive(Seq(8), Seq(8)), Ok(Arrival::New)));
        assert!(matches!(
            answers.arrive(Seq(7), Seq(0)),
            Err(Fault::Settled)
        ));
        assert!(matches!(answers.begin(Seq(7)), Err(Fault::Settled)));
        assert!(answers.table.lock().begun.is_empty());
    }

    #[test]
    fn what_was_given_up_is_as_if_never_asked() {
        let answers = Arc::<Answers>::default();
        drop(begin(&answers, 1));
        assert!(matches!(answers.arrive(Seq(1), Seq(1)), Ok(Arrival::New)));
    }

    #[test]
    fn bounded_and_what_runs_counts_though_settled() {
        let answers = Arc::<Answers>::default();
        let most = ANSWERS_MAX as u64;
        let duties: Vec<_> = (0..most).map(|seq| begin(&answers, seq)).collect();
        let _ = answers.arrive(Seq(most), Seq(most));
        assert!(matches!(answers.begin(Seq(most)), Err(Fault::Exhausted)));
        for duty in duties {
            duty.answer(Reply::Done);
        }
        assert!(answers.table.lock().begun.is_empty());
        assert!(answers.begin(Seq(most)).is_ok());
    }
}
