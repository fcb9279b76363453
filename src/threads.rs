//! Threads. The kernels share work through rayon; candle's own element-wise operations have a second pool, whose threads wait by
//! spinning and so take turns with the kernels' where processors are few or busy (training on two cores took twice as long).

use std::cell::Cell;

/// Keeps candle's second pool to the calling thread, where that can be done safely: candle reads its size from the environment
/// variable `CANDLE_NUM_THREADS`, once, at the first large operation, and a variable may be set only while no other thread can read
/// the environment. So this does something only in a process with a single thread, such as a program at its start; in others the
/// variable may be set from outside. A value that is there already is respected.
pub fn prepare() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if alone && std::env::var_os(NAME).is_none() {
        std::env::set_var(NAME, "1");
    }
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on pictures on this thread and no other: rayon would start a pool for a caller that belongs to none.
pub(crate) fn alone<T>(work: impl FnOnce() -> T) -> T {
    /// Puts it back after a panic too.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

/// Whether this thread is inside [`alone`].
pub(crate) fn is_alone() -> bool {
    ALONE.get()
}
