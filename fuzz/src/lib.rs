//! What the fuzz targets share: files in memory, readings of checkpoints and pictures, archives around a pickle, and an allocator that ends the program where a reader takes
//! more memory than its file allows.

use nada::checkpoint::{self, Checkpoint, Kind};
use nada::picture::Picture;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex};

/// A reader may hold this many times its file, and `EXTRA` bytes more.
const FACTOR: usize = 2;
const EXTRA: usize = 64 << 20;

struct Limited;

static HELD: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        if held > LIMIT.load(Relaxed) {
            // Not a panic, which a reader might catch. The message may allocate.
            LIMIT.store(usize::MAX, Relaxed);
            eprintln!("memory: {held} bytes are held, of which {} are asked for now", layout.size());
            std::process::abort();
        }
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        System.dealloc(pointer, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Runs `work` on a file of `bytes`; ends the program where it holds more memory than a file of that size allows.
pub fn within_limit(bytes: usize, work: impl FnOnce()) {
    LIMIT.store(HELD.load(Relaxed) + FACTOR * bytes + EXTRA, Relaxed);
    work();
    LIMIT.store(usize::MAX, Relaxed);
}

/// The path of a file that holds `bytes`: one file in memory, written anew each time.
pub fn file(bytes: &[u8]) -> PathBuf {
    static MEMORY: LazyLock<Mutex<File>> = LazyLock::new(|| {
        // SAFETY: the name is a C string; the descriptor is checked, and owned by the file alone.
        let fd = unsafe { libc::memfd_create(c"case".as_ptr(), 0) };
        assert!(fd >= 0, "memfd_create");
        Mutex::new(unsafe { File::from_raw_fd(fd) })
    });
    let file = MEMORY.lock().expect("one thread");
    file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("writing to memory");
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens the bytes as a checkpoint and reads every tensor in it, both ways.
pub fn read_checkpoint(bytes: &[u8]) {
    let path = file(bytes);
    within_limit(bytes.len(), || {
        if let Ok(checkpoint) = checkpoint::open(&path) {
            read_tensors(&checkpoint);
        }
    });
}

/// As [`read_checkpoint`], by one reader whatever the bytes look like.
pub fn read_as(bytes: &[u8], kind: Kind) {
    let copy = bytes.to_vec();
    within_limit(bytes.len(), || {
        if let Ok(checkpoint) = checkpoint::open_bytes_as(Path::new("case"), copy, kind) {
            read_tensors(&checkpoint);
        }
    });
}

/// Pictures of more pixels take the memory of their pixels and the time of their decoders, which say nothing of the readers.
const PIXELS: usize = 1 << 18;

/// Of a pixel: as floats, twice, and as a decoder has it.
const PIXEL: usize = 64;

/// Opens the bytes as a picture, whole and only its square.
pub fn read_picture(bytes: &[u8]) {
    let path = file(bytes);
    let mut size = None;
    within_limit(bytes.len(), || size = Picture::size_of_file(&path).ok());
    let Some((width, height)) = size.filter(|(width, height)| width * height <= PIXELS) else { return };
    within_limit(bytes.len() + width * height * PIXEL, || {
        let whole = Picture::open_with_warnings(&path);
        if let Ok((picture, _)) = &whole {
            assert_eq!((picture.width, picture.height, picture.data.len()), (width, height, width * height * 4));
            assert!(picture.data.iter().all(|v| (0.0..=1.0).contains(v)), "a number outside of [0, 1]");
        }
        let square = Picture::open_square(&path, 8);
        assert_eq!(whole.is_ok(), square.is_ok(), "{whole:?} {square:?}");
        if let Ok((square, _)) = square {
            assert!(square.data.iter().all(|v| (0.0..=1.0).contains(v)), "a number outside of [0, 1]");
        }
        assert_eq!(whole.is_ok(), Picture::look_at(&path).is_ok());
    });
}

fn read_tensors(checkpoint: &Checkpoint) {
    for key in checkpoint.keys() {
        let shape = checkpoint.shape(key).expect("a key has a shape");
        if let Ok(tensor) = checkpoint.tensor(key) {
            assert_eq!(tensor.dims(), shape, "{key}");
        }
        if let Ok(tensor) = checkpoint.f32(key, None) {
            assert_eq!(tensor.dims(), shape, "{key}");
        }
    }
}

/// Storages under the keys that files of a few tensors have.
pub const STORAGES: [(&str, &[u8]); 8] = {
    const BYTES: &[u8] = &[0x3c; 2048];
    [
        ("a/data/0", BYTES),
        ("a/data/1", BYTES),
        ("a/data/2", BYTES),
        ("a/data/3", BYTES),
        ("a/data/4", BYTES),
        ("a/data/5", BYTES),
        ("a/data/6", BYTES),
        ("a/data/7", BYTES),
    ]
};

/// A zip archive of stored entries, as torch.save lays it out but with checksums of zero, which nothing here reads.
pub fn archive<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let (mut out, mut directory, mut count) = (Vec::new(), Vec::new(), 0u16);
    for (name, bytes) in entries {
        count += 1;
        let at = out.len() as u32;
        let mut sizes = vec![0; 14]; // version, flags, method, time, date, checksum
        sizes.extend([bytes.len() as u32; 2].map(u32::to_le_bytes).concat());
        sizes.extend((name.len() as u32).to_le_bytes()); // and no extra field
        out.extend([b"PK\x03\x04", sizes.as_slice(), name.as_bytes(), bytes].concat());
        let attributes = [0; 10];
        directory.extend([b"PK\x01\x02\x00\x00", sizes.as_slice(), &attributes, &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (count, at) = (count.to_le_bytes(), out.len() as u32);
    out.extend(&directory);
    out.extend([b"PK\x05\x06\x00\x00\x00\x00", count.as_slice(), &count].concat());
    out.extend([directory.len() as u32, at].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}
