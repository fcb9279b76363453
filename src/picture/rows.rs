//! Work on rows: shared among the threads of rayon's pool, or on the caller's own ([`crate::threads::alone`]).

use crate::error::Result;
use crate::threads::is_alone;
use rayon::prelude::*;

/// What `of` makes of each row of `per` elements, told its number, in their order.
pub(super) fn map<A: Sync, T: Send>(rows: &[A], per: usize, of: impl Fn(usize, &[A]) -> Result<T> + Sync) -> Result<Vec<T>> {
    let of = |(i, row): (usize, &[A])| of(i, row);
    match is_alone() {
        true => rows.chunks_exact(per).enumerate().map(of).collect(),
        false => rows.par_chunks_exact(per).enumerate().map(of).collect(),
    }
}

/// Has `fill` write each row of `per` elements, told its number.
pub(super) fn fill<A: Send>(rows: &mut [A], per: usize, fill: impl Fn(usize, &mut [A]) -> Result<()> + Sync) -> Result<()> {
    let fill = |(i, row): (usize, &mut [A])| fill(i, row);
    match is_alone() {
        true => rows.chunks_exact_mut(per).enumerate().try_for_each(fill),
        false => rows.par_chunks_exact_mut(per).enumerate().try_for_each(fill),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::threads::alone;

    #[test]
    fn rows_are_the_same_alone_and_shared() {
        let numbers: Vec<u32> = (0..60).collect();
        let both = || {
            let sums = map(&numbers, 4, |i, row| Ok(row.iter().sum::<u32>() + i as u32)).unwrap();
            let mut out = vec![0; 15 * 2];
            fill(&mut out, 2, |i, row| {
                row.fill(sums[i]);
                Ok(())
            })
            .unwrap();
            out
        };
        // On a thread of its own: the caller's number of threads is then seen to be none.
        let own = std::thread::spawn(move || {
            let this = std::thread::current().id();
            let threads = alone(|| map(&[0; 9], 3, |_, _| Ok(std::thread::current().id()))).unwrap();
            assert_eq!(threads, [this; 3]);
        });
        own.join().unwrap();
        assert_eq!(alone(both), both());
        let failed = map(&numbers, 4, |i, _| if i == 7 { Err(Error::Cancelled) } else { Ok(()) });
        assert!(matches!(failed, Err(Error::Cancelled)));
    }
}
