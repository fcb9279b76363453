//! The threads of a context, and how work gets onto them.
//!
//! Work runs on pools of the context's own rather than on rayon's global one: the number of threads is the context's choice, two
//! contexts do not disturb each other, and freeing a context's last handle ends its threads. A pool serves one call at a time; a call
//! that finds none idle starts another, and at most [`IDLE_POOLS`] wait for the next one. So a callback may take as long as it likes, may
//! itself call the library, and may wait for another thread that does: no call ever waits for another one's pool.

use super::call::Callback;
use super::status::{nada_status, Failure, Result};
use crate::device::Device;
use crate::memory::Need;
use crate::picture::Picture;
use crate::progress::{Flow, OnProgress, Progress};
use crate::threads::alone;
use std::sync::{mpsc, Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

/// Dropping a tensor's graph recurses; deep graphs do not fit the 2 MiB that threads get by default.
const STACK: usize = 16 << 20;

/// Pools that are kept while no call runs: one for a host that calls in turn, one for its callbacks that call. The threads of more would
/// hold what kernels keep to work on again, for as long as the context lives.
const IDLE_POOLS: usize = 2;

pub(super) struct Runtime {
    threads: usize,
    /// Bytes that a call may need by estimate; 0 for what the machine has left.
    memory_limit: u64,
    device: Device,
    idle: Mutex<Vec<Pool>>,
}

struct Pool {
    /// None only while being dropped.
    pool: Option<rayon::ThreadPool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn new(threads: usize) -> Result<Self> {
        let mut handles = Vec::with_capacity(threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|worker| {
                let thread = std::thread::Builder::new().name("nada".into()).stack_size(STACK);
                handles.push(thread.spawn(move || worker.run())?);
                Ok(())
            })
            .build()
            .map_err(|e| Failure::new(nada_status::NADA_OUT_OF_MEMORY, format!("cannot start {threads} worker threads: {e}")))?;
        Ok(Self { pool: Some(pool), threads: handles })
    }
}

impl Drop for Pool {
    /// Waits for the threads, so that none of them is left once a context and its handles are freed.
    fn drop(&mut self) {
        drop(self.pool.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A pool on loan; it goes back when dropped, after a panic too.
struct Loan<'a> {
    runtime: &'a Runtime,
    pool: Option<Pool>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let mut idle = self.runtime.idle();
            if idle.len() < IDLE_POOLS {
                idle.push(pool);
            } else {
                // Ending threads takes a while, and other calls need not wait for it.
                drop(idle);
                drop(pool);
            }
        }
    }
}

/// A report on its way from the work to the caller's thread.
struct Report {
    step: usize,
    total: usize,
    loss: f32,
    preview: Option<Picture>,
}

impl Runtime {
    /// Starts the first pool, so that a context that exists can work.
    pub fn new(threads: usize, memory_limit: u64, device: Device) -> Result<Arc<Self>> {
        let made = Arc::new(Self { threads, memory_limit, device, idle: Mutex::new(vec![Pool::new(threads)?]) });
        let mut alive = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|runtime| runtime.strong_count() > 0);
        alive.push(Arc::downgrade(&made));
        Ok(made)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Pool>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Fails where a call needs more than it may.
    pub fn admit(&self, need: Need) -> Result<()> {
        let admitted = need.admit(self.memory_limit, "nada_context_options.memory_limit");
        admitted.map_err(|e| {
            let mut failure = Failure::from(e);
            failure.parts.memory = need.bytes();
            failure
        })
    }

    fn loan(&self) -> Result<Loan<'_>> {
        let idle = self.idle().pop();
        let pool = match idle {
            Some(pool) => pool,
            None => Pool::new(self.threads)?,
        };
        Ok(Loan { runtime: self, pool: Some(pool) })
    }

    /// A pool that no call uses at the moment.
    fn lend(&self) -> Option<Loan<'_>> {
        let pool = self.idle().pop()?;
        Some(Loan { runtime: self, pool: Some(pool) })
    }

    /// Runs `work` on the context's threads and waits for it. A panic in it goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> crate::Result<T> + Send) -> Result<T> {
        let loan = self.loan()?;
        match &loan.pool {
            Some(Pool { pool: Some(pool), .. }) => Ok(pool.install(work)?),
            _ => Err(Failure::new(nada_status::NADA_INTERNAL, "a pool on loan is gone")),
        }
    }

    /// Runs `work`, and `callback` for each of its reports, on the thread of the caller: hosts draw from it. The work waits meanwhile.
    pub fn run_reporting<T: Send>(&self, callback: &Callback, work: impl FnOnce(&mut OnProgress) -> crate::Result<T> + Send) -> Result<T> {
        if callback.is_none() {
            return self.run(|| work(&mut crate::progress::silent));
        }
        let loan = self.loan()?;
        let Some(Pool { pool: Some(pool), .. }) = &loan.pool else {
            return Err(Failure::new(nada_status::NADA_INTERNAL, "a pool on loan is gone"));
        };
        let (reports, inbox) = mpsc::channel::<Report>();
        let (answers, replies) = mpsc::channel::<Flow>();
        let mut result = None;
        // A panic of the work drops its end of the channel, which ends the loop, and goes on from the scope.
        pool.in_place_scope(|scope| {
            let result = &mut result;
            scope.spawn(move |_| {
                let mut on_progress = |p: &Progress| {
                    let report = Report { step: p.step, total: p.total, loss: p.loss, preview: p.preview.cloned() };
                    match reports.send(report).ok().and_then(|()| replies.recv().ok()) {
                        Some(flow) => flow,
                        None => Flow::Stop,
                    }
                };
                *result = Some(work(&mut on_progress));
            });
            for report in inbox {
                let flow = callback.call(report.step, report.total, report.loss, report.preview);
                if answers.send(flow).is_err() {
                    break;
                }
            }
        });
        match result {
            Some(result) => Ok(result?),
            None => Err(Failure::new(nada_status::NADA_INTERNAL, "the work ended without a result")),
        }
    }
}

/// The runtimes of contexts, and of what was opened through them, for as long as they live.
static ALIVE: Mutex<Vec<Weak<Runtime>>> = Mutex::new(Vec::new());

/// Runs `work` on pictures, which belong to no context: on threads of one where some are idle, else on the caller's own. It starts none.
pub(super) fn run_on_pictures<T: Send>(work: impl FnOnce() -> crate::Result<T> + Send) -> Result<T> {
    let alive: Vec<Arc<Runtime>> = ALIVE.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    run_on_idle(&alive, work)
}

fn run_on_idle<T: Send>(alive: &[Arc<Runtime>], work: impl FnOnce() -> crate::Result<T> + Send) -> Result<T> {
    let loan = alive.iter().find_map(|runtime| runtime.lend());
    match loan.as_ref().and_then(|loan| loan.pool.as_ref()?.pool.as_ref()) {
        Some(pool) => Ok(pool.install(work)?),
        None => Ok(alone(work)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::HOST;

    #[test]
    fn a_context_of_one_thread_serves_nested_calls() {
        let runtime = Runtime::new(1, 0, HOST.clone()).unwrap();
        let sum = runtime.run(|| Ok(runtime.run(|| Ok(2)).unwrap() + rayon::current_num_threads())).unwrap();
        assert_eq!(sum, 3);
        assert_eq!(runtime.idle().len(), 2);
    }

    #[test]
    fn pools_of_many_calls_at_once_do_not_stay() {
        let runtime = Runtime::new(2, 0, HOST.clone()).unwrap();
        let all = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            // Each has a pool of its own once all are inside.
            (0..8).for_each(|_| _ = scope.spawn(|| runtime.run(|| Ok(all.wait())).unwrap()));
        });
        assert_eq!(runtime.idle().len(), IDLE_POOLS);
        assert_eq!(runtime.run(|| Ok(5)).unwrap(), 5);
    }

    #[test]
    fn work_on_pictures_starts_no_threads() {
        let this = std::thread::current().id();
        let own = || Ok((std::thread::current().id() == this, crate::threads::is_alone()));
        assert_eq!(run_on_idle(&[], own).unwrap(), (true, true));
        let all = [Runtime::new(2, 0, HOST.clone()).unwrap()];
        assert_eq!(run_on_idle(&all, own).unwrap(), (false, false));
        assert_eq!(all[0].idle().len(), 1, "what was lent is back");
        // While a call uses the only pool.
        let inside = all[0].run(|| {
            let inner = std::thread::current().id();
            let found = run_on_idle(&all, || Ok((std::thread::current().id() == inner, crate::threads::is_alone()))).unwrap();
            Ok((found, all[0].idle().len()))
        });
        assert_eq!(inside.unwrap(), ((true, true), 0));
        assert!(!crate::threads::is_alone());
    }

    #[test]
    fn a_panic_gives_the_pool_back() {
        let runtime = Runtime::new(1, 0, HOST.clone()).unwrap();
        let run = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.run(|| -> crate::Result<()> { panic!("boom") })));
        assert!(run().is_err());
        assert_eq!(runtime.idle().len(), 1);
        assert_eq!(runtime.run(|| Ok(5)).unwrap(), 5);
    }
}
