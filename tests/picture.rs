//! Pictures: files of every kind, resampling against Pillow, borrowed pixels, contact sheets. Data by tests/data/picture/make.py.

use candle_core::{DType, Device, Tensor};
use nada::picture::pixels::{self, Format, Layout, Transfer};
use nada::picture::{Encoding, Picture, MAX_PIXELS, SHEET_GAP};
use nada::Kind;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/picture").join(name)
}

fn open(name: &str) -> Picture {
    Picture::open(&data(name)).unwrap()
}

fn pixel(p: &Picture, x: usize, y: usize) -> [f32; 4] {
    let at = (y * p.width + x) * 4;
    p.data[at..at + 4].try_into().unwrap()
}

/// The largest difference of two pictures of one size, in steps of 8 bits.
fn steps_apart(a: &Picture, b: &Picture) -> f32 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs() * 255.0).fold(0.0, f32::max)
}

#[test]
fn every_depth_palette_and_alpha() {
    let grey = [0.0, 1.0 / 65535.0, 32768.0 / 65535.0, 1.0];
    let p = open("grey16.png");
    assert_eq!((p.width, p.height), (4, 2));
    for (x, v) in grey.into_iter().enumerate() {
        assert_eq!(pixel(&p, x, 1), [v, v, v, 1.0]);
    }
    let p = open("rgba16.png");
    for (x, v) in grey.into_iter().enumerate() {
        let want = [v, 1.0 - v, 257.0 / 65535.0, 32768.0 / 65535.0];
        for (have, want) in pixel(&p, x, 0).into_iter().zip(want) {
            assert!((have - want).abs() < 1e-7, "{have} {want}");
        }
    }
    let p = open("grey1.png");
    assert_eq!((0..4).map(|x| pixel(&p, x, 0)[0]).collect::<Vec<_>>(), [1.0, 0.0, 1.0, 0.0]);
    let p = open("grey_alpha8.png");
    assert_eq!(pixel(&p, 1, 0), [100.0 / 255.0, 100.0 / 255.0, 100.0 / 255.0, 128.0 / 255.0]);
    let p = open("palette.png");
    assert_eq!(pixel(&p, 0, 0), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(pixel(&p, 1, 0), [0.0, 1.0, 0.0, 128.0 / 255.0]);
    assert_eq!(pixel(&p, 2, 0), [0.0, 0.0, 1.0, 1.0]);
    let p = open("one.png");
    assert_eq!((p.width, p.height, pixel(&p, 0, 0)), (1, 1, [10.0 / 255.0, 20.0 / 255.0, 30.0 / 255.0, 1.0]));
}

#[test]
fn jpeg() {
    let p = open("photo.jpg");
    let want = nada::checkpoint::read_npy(&data("photo_jpg.npy")).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let have: Vec<f32> = p.data.chunks_exact(4).flat_map(|p| p[..3].iter().map(|v| v * 255.0)).collect();
    // Decoders may round the inverse cosine transform and the colour change differently: libjpeg-turbo made the file's pixels.
    let worst = have.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(have.len() == want.len() && worst <= 3.0, "{worst}");
    let turned = open("turned.jpg");
    assert_eq!((turned.width, turned.height), (p.height, p.width));
    assert_eq!(pixel(&turned, p.height - 1, 0), pixel(&p, 0, 0));
    assert_eq!(open("grey.jpg").width, 53);
}

#[test]
fn the_content_decides_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_png.jpg");
    std::fs::copy(data("photo.png"), &path).unwrap();
    assert_eq!(Picture::open(&path).unwrap(), open("photo.png"));
}

#[test]
fn bad_files_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let png = std::fs::read(data("photo.png")).unwrap();
    let jpg = std::fs::read(data("photo.jpg")).unwrap();
    let mut flipped = png.clone();
    flipped[png.len() / 2] ^= 0x55;
    for (path, kind, words) in [
        (folder.path().join("missing.png"), Kind::NotFound, vec!["missing.png"]),
        (folder.path().to_path_buf(), Kind::Format, vec!["folder"]),
        (write("empty.png", b""), Kind::Format, vec!["empty.png", "PNG, JPEG, WebP"]),
        (write("text.png", b"hello"), Kind::Format, vec!["text.png", "PNG, JPEG, WebP"]),
        (write("a.gif", b"GIF89a\x01\0\x01\0"), Kind::Format, vec!["a.gif", "is a GIF picture"]),
        (write("cut.png", &png[..png.len() / 2]), Kind::Format, vec!["cut.png", "PNG", "cut off"]),
        (write("flipped.png", &flipped), Kind::Format, vec!["flipped.png"]),
        (write("cut.jpg", &jpg[..jpg.len() / 2]), Kind::Format, vec!["cut.jpg", "JPEG", "cut off"]),
        // Found by fuzzing: a tag of six million values in a file of four thousand bytes.
        (data("more/many_values.tif"), Kind::Format, vec!["tags that lie outside of the file"]),
        (data("huge.png"), Kind::Format, vec!["60000 x 60000", "67108864", "-resize"]),
    ] {
        let e = Picture::open(&path).expect_err(&path.display().to_string());
        assert_eq!(e.kind(), kind, "{e}");
        for word in words {
            assert!(e.to_string().contains(word), "{e} lacks {word}");
        }
    }
}

#[test]
fn png_round_trips_8_bits() {
    let folder = tempfile::tempdir().unwrap();
    for (name, channels) in [("photo.png", 2), ("grey_alpha8.png", 6)] {
        let path = folder.path().join(name);
        open(name).save_png(&path).unwrap();
        assert_eq!(Picture::open(&path).unwrap(), open(name));
        // IHDR's colour type: 2 is RGB, 6 is RGBA.
        assert_eq!(std::fs::read(&path).unwrap()[25], channels, "{name}");
    }
    let e = open("photo.png").save_png(&folder.path().join("no/such/folder.png")).unwrap_err();
    assert!(e.to_string().contains("no/such"), "{e}");
}

#[test]
fn the_ending_says_how_a_picture_is_written() {
    for (name, want) in [("a.png", Encoding::Png), ("a.PNG", Encoding::Png), ("a.b.jpg", Encoding::Jpeg), ("a.JPEG", Encoding::Jpeg)] {
        assert_eq!(Encoding::of(Path::new(name)).unwrap(), want, "{name}");
    }
    for name in ["/dev/stdout", "picture", ".png", "dot."] {
        assert_eq!(Encoding::of(Path::new(name)).unwrap(), Encoding::Png, "{name}");
    }
    for name in ["a.webp", "a.tif", "a.safetensors", "a.png.txt"] {
        let e = Encoding::of(Path::new(name)).unwrap_err();
        assert_eq!(e.kind(), Kind::InvalidArgument);
        let ending = name.rsplit('.').next().unwrap();
        assert!(e.to_string().contains(&format!("{name}: ends in .{ending};")) && e.to_string().contains(".jpeg"), "{e}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.webp");
    assert!(open("photo.png").save(&path).is_err() && !path.exists());
}

#[test]
fn jpegs_are_written_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    open("photo.png").save(&path).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(&[0xFF, 0xD8, 0xFF]));
    let (want, have) = (open("photo.png"), Picture::open(&path).unwrap());
    let mean = want.data.iter().zip(&have.data).map(|(a, b)| (a - b).abs() * 255.0).sum::<f32>() / want.data.len() as f32;
    assert!(mean < 3.0 && steps_apart(&want, &have) < 30.0, "{mean} {}", steps_apart(&want, &have));
    // A JPEG has no alpha: what is clear becomes white.
    Picture::filled(16, 16, [0.0, 0.5, 1.0, 0.0]).unwrap().save(&path).unwrap();
    assert!(steps_apart(&Picture::open(&path).unwrap(), &Picture::filled(16, 16, [1.0; 4]).unwrap()) < 1.5);
}

/// The data of the chunk, or None.
fn chunk(png: &[u8], kind: &[u8; 4]) -> Option<Vec<u8>> {
    let mut rest = &png[8..];
    while rest.len() >= 12 {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        if rest[4..8] == *kind {
            return Some(rest[8..8 + length].to_vec());
        }
        rest = &rest[12 + length..];
    }
    None
}

#[test]
fn written_files_say_what_their_numbers_mean() {
    let picture = open("photo.png");
    let png = picture.encoded(Encoding::Png).unwrap();
    assert_eq!(chunk(&png, b"sRGB"), Some(vec![0]));
    assert_eq!(chunk(&png, b"gAMA"), Some(45455u32.to_be_bytes().to_vec()));
    let primaries = [31270u32, 32900, 64000, 33000, 30000, 60000, 15000, 6000];
    assert_eq!(chunk(&png, b"cHRM"), Some(primaries.into_iter().flat_map(u32::to_be_bytes).collect()));
    let jpeg = picture.encoded(Encoding::Jpeg).unwrap();
    let at = jpeg.windows(12).position(|w| w == b"ICC_PROFILE\0").expect("a profile");
    let size = u16::from_be_bytes([jpeg[at - 2], jpeg[at - 1]]);
    assert!((200..1000).contains(&size), "{size}");
    let name: Vec<u8> = "sRGB IEC61966-2.1".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(jpeg.windows(name.len()).any(|w| w == name), "the profile's name");
}

#[test]
fn resampling_agrees_with_pillow() {
    let p = open("photo.png");
    for (width, height, name) in [(16, 11, "photo_16x11.png"), (80, 90, "photo_80x90.png")] {
        // Pillow rounds to 8 bits after each of its two passes: half a step of the second, and half a step of the first that the
        // second's negative lobes raise to at most 1.5 times.
        let apart = steps_apart(&p.resized(width, height).unwrap(), &open(name));
        assert!(apart <= 1.25, "{name} {apart}");
    }
    assert_eq!(p.resized(53, 37).unwrap(), p);
}

#[test]
fn resampling_does_not_bleed_clear_colours() {
    // Left half opaque green, right half clear red: nothing may turn red.
    let mut p = Picture::filled(8, 4, [0.0, 1.0, 0.0, 1.0]).unwrap();
    for y in 0..4 {
        for x in 4..8 {
            let at = (y * 8 + x) * 4;
            p.data[at..at + 4].copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
        }
    }
    let small = p.resized(3, 2).unwrap();
    assert!(small.data.chunks_exact(4).all(|p| p[0] == 0.0), "{:?}", small.data);
    assert!(small.data.chunks_exact(4).any(|p| p[3] > 0.0 && p[3] < 1.0), "{:?}", small.data);
}

#[test]
fn squares_and_single_pixels() {
    let p = open("photo.png").square(37).unwrap();
    assert_eq!((p.width, p.height), (37, 37));
    assert_eq!(pixel(&p, 0, 0), pixel(&open("photo.png"), 8, 0));
    let one = open("one.png");
    let grown = one.square(64).unwrap();
    assert!(grown.data.chunks_exact(4).all(|q| q.iter().zip(&one.data).all(|(a, b)| (a - b).abs() < 1e-6)));
    for (width, height) in [(0, 4), (4, 0), (1 << 17, 1), (1 << 14, (MAX_PIXELS >> 14) + 1), (usize::MAX, usize::MAX)] {
        let e = one.resized(width, height).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains(&format!("{width} x {height}")), "{e}");
    }
    let e = one.cropped(0, 1, 1, 1).unwrap_err();
    assert!(e.to_string().contains("1 x 1 at (0, 1)"), "{e}");
}

#[test]
fn tensors() {
    let p = open("grey_alpha8.png");
    let t = p.to_tensor().unwrap();
    assert_eq!(t.dims(), [1, 3, 2, 4]);
    let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let grey = |v: f32, a: f32| (v / 255.0 * a / 255.0 + 1.0 - a / 255.0) * 2.0 - 1.0;
    for (have, want) in values.iter().zip([grey(0.0, 255.0), grey(100.0, 128.0), grey(200.0, 0.0), grey(255.0, 1.0)]) {
        assert!((have - want).abs() < 1e-6);
    }
    // Every 8-bit value survives.
    let ramp: Vec<f32> = (0..256).flat_map(|v| [v as f32 / 255.0, v as f32 / 255.0, v as f32 / 255.0, 1.0]).collect();
    let ramp = Picture { width: 16, height: 16, data: ramp };
    let back = Picture::from_tensor(&ramp.to_tensor().unwrap(), 0).unwrap();
    assert!(steps_apart(&ramp, &back) < 1e-4);
    assert_eq!(ramp.to_png().unwrap(), back.to_png().unwrap());
    let wide = Tensor::new(&[[[[-3.0f32]], [[0.0]], [[7.0]]]], &Device::Cpu).unwrap();
    assert_eq!(Picture::from_tensor(&wide, 0).unwrap().data, [0.0, 0.5, 1.0, 1.0]);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(Picture::from_tensor(&zeros(&[3, 4, 4]), 0).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(Picture::from_tensor(&zeros(&[1, 2, 4, 4]), 0).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(Picture::from_tensor(&zeros(&[2, 3, 4, 4]), 2).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(Picture::from_tensor(&(zeros(&[1, 3, 4, 4]) / 0.0).unwrap(), 0).unwrap_err().kind(), Kind::NotFinite);
}

#[test]
fn contact_sheets() {
    let one = |v: f32| Picture::filled(3, 2, [v, v, v, 1.0]).unwrap();
    let sheet = Picture::contact_sheet(&[one(0.1), one(0.2), one(0.3)], 2).unwrap();
    assert_eq!((sheet.width, sheet.height), (3 * 2 + SHEET_GAP, 2 * 2 + SHEET_GAP));
    assert_eq!(pixel(&sheet, 0, 0)[0], 0.1);
    assert_eq!(pixel(&sheet, 3, 0), [1.0; 4]);
    assert_eq!(pixel(&sheet, 5, 0)[0], 0.2);
    assert_eq!(pixel(&sheet, 2, 5)[0], 0.3);
    assert_eq!(pixel(&sheet, 7, 5), [1.0; 4]);
    let widest = Picture::contact_sheet(&[one(0.1)], 100).unwrap();
    assert_eq!(widest.width, 3);
    for (pictures, columns, word) in [
        (vec![], 1, "pictures"),
        (vec![one(0.0)], 0, "columns"),
        (vec![one(0.0), Picture::filled(2, 2, [0.0; 4]).unwrap()], 1, "picture 1 is 2 x 2"),
    ] {
        let e = Picture::contact_sheet(&pictures, columns).unwrap_err();
        assert!(e.to_string().contains(word), "{e}");
    }
}

const FORMATS: [Format; 7] = [Format::Rgb8, Format::Rgba8, Format::Bgra8, Format::Gray8, Format::Rgb16, Format::Rgba16, Format::Rgba32F];

#[test]
fn borrowed_pixels_round_trip() {
    for format in FORMATS {
        for transfer in [Transfer::Srgb, Transfer::Linear] {
            let mut layout = Layout::packed(64, 64, format, transfer);
            layout.stride += 5;
            let alpha = matches!(format, Format::Rgba8 | Format::Bgra8 | Format::Rgba16);
            let mut bytes = vec![0xABu8; layout.bytes().unwrap()];
            for y in 0..64 {
                for i in 0..64 * format.bytes_per_pixel() {
                    // A cheap hash, so that every byte value and many 16-bit ones occur.
                    bytes[y * layout.stride + i] = ((y * 1009 + i * 37) ^ (i >> 3)) as u8;
                }
            }
            if format == Format::Rgba32F {
                for (i, v) in (0..64 * 64 * 4).map(|i| i as f32 / (64.0 * 64.0 * 4.0)).enumerate() {
                    let at = i / 256 * layout.stride + i % 256 * 4;
                    bytes[at..at + 4].copy_from_slice(&v.to_ne_bytes());
                }
            }
            let picture = pixels::read(&bytes, &layout).unwrap();
            assert_eq!(alpha || format == Format::Rgba32F, picture.data.chunks_exact(4).any(|p| p[3] < 1.0), "{format:?}");
            let mut back = vec![0xABu8; bytes.len()];
            pixels::write(&picture, &mut back, &layout).unwrap();
            if format == Format::Rgba32F {
                for (a, b) in bytes.chunks_exact(layout.stride).zip(back.chunks_exact(layout.stride)) {
                    for (a, b) in a[..1024].chunks_exact(4).zip(b[..1024].chunks_exact(4)) {
                        let (a, b) = (f32::from_ne_bytes(a.try_into().unwrap()), f32::from_ne_bytes(b.try_into().unwrap()));
                        // Two roundings to f32 of numbers up to 1, through a curve whose slope is at most 12.92.
                        assert!((a - b).abs() <= 13.0 * f32::EPSILON, "{a} {b}");
                    }
                }
            } else {
                assert_eq!(bytes, back, "{format:?} {transfer:?}: every integer and the padding must survive");
            }
        }
    }
}

#[test]
fn borrowed_pixels_mean_the_same() {
    let bgra = [30u8, 20, 10, 40];
    let want = [10.0 / 255.0, 20.0 / 255.0, 30.0 / 255.0, 40.0 / 255.0];
    let read = |bytes: &[u8], format, transfer| pixels::read(bytes, &Layout::packed(1, 1, format, transfer)).unwrap().data;
    assert_eq!(read(&bgra, Format::Bgra8, Transfer::Srgb), want);
    assert_eq!(read(&[10, 20, 30], Format::Rgb8, Transfer::Srgb), [want[0], want[1], want[2], 1.0]);
    // IEC 61966-2-1: linear 0.5 is 0.735357 encoded, and alpha is not a colour.
    let half: Vec<u8> = [0.5f32, 2.0, -1.0, 0.5].into_iter().flat_map(f32::to_ne_bytes).collect();
    let have = read(&half, Format::Rgba32F, Transfer::Linear);
    for (have, want) in have.iter().zip([0.735357f32, 1.0, 0.0, 0.5]) {
        assert!((have - want).abs() < 1e-6, "{have} {want}");
    }
    // Without an alpha channel the picture lies over white, in grey by luma.
    let clear = Picture::filled(1, 1, [0.0, 1.0, 0.0, 0.5]).unwrap();
    let mut rgb = [0u8; 3];
    pixels::write(&clear, &mut rgb, &Layout::packed(1, 1, Format::Rgb8, Transfer::Srgb)).unwrap();
    assert_eq!(rgb, [128, 255, 128]);
    let mut grey = [0u8];
    let green = Picture::filled(1, 1, [0.0, 1.0, 0.0, 1.0]).unwrap();
    pixels::write(&green, &mut grey, &Layout::packed(1, 1, Format::Gray8, Transfer::Srgb)).unwrap();
    assert_eq!(grey, [182]);
}

#[test]
fn borrowed_pixels_are_checked() {
    let layout = |width, height, stride| Layout { width, height, stride, format: Format::Rgba8, transfer: Transfer::Srgb };
    for (layout, words) in [
        (layout(0, 1, 4), "0 x 1"),
        (layout(2, 2, 7), "row stride: 7 bytes"),
        (layout(2, 2, 8), "15 bytes"),
        (layout(2, 2, usize::MAX), "row stride"),
        (layout(2, 3, usize::MAX / 2), "address space"),
        (layout(usize::MAX, usize::MAX, usize::MAX), "too large"),
    ] {
        let e = pixels::read(&[0; 15], &layout).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains(words), "{e} lacks {words}");
    }
    // The last row needs no padding.
    assert_eq!(layout(2, 2, 100).bytes().unwrap(), 108);
    let nan = f32::NAN.to_ne_bytes().repeat(4);
    let e = pixels::read(&nan, &Layout::packed(1, 1, Format::Rgba32F, Transfer::Srgb)).unwrap_err();
    assert!(e.to_string().contains("(0, 0)"), "{e}");
    let e = pixels::write(&Picture::filled(2, 1, [0.0; 4]).unwrap(), &mut [0; 4], &layout(1, 1, 4)).unwrap_err();
    assert!(e.to_string().contains("2 x 1"), "{e}");
}

/// The largest and the mean difference of colours, in steps of 8 bits.
fn apart(a: &Picture, b: &Picture) -> (f32, f32) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let colours = |p: &Picture| p.data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect::<Vec<_>>();
    let far: Vec<f32> = colours(a).iter().zip(colours(b)).map(|(a, b)| (a - b).abs() * 255.0).collect();
    (far.iter().copied().fold(0.0, f32::max), far.iter().sum::<f32>() / far.len() as f32)
}

/// Without warnings.
fn quiet(name: &str) -> Picture {
    let (picture, warnings) = Picture::open_with_warnings(&data(name)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    picture
}

/// With one warning, which names the file and has the words.
fn warned(name: &str, words: &[&str]) -> Picture {
    let (picture, warnings) = Picture::open_with_warnings(&data(name)).unwrap();
    let [warning] = &warnings[..] else { panic!("{name}: {warnings:?}") };
    for word in std::iter::once(&name).chain(words) {
        assert!(warning.contains(word), "{warning} lacks {word}");
    }
    picture
}

#[test]
fn what_a_file_says_of_its_colours_counts() {
    let want = quiet("colour/srgb.png");
    // Floats against 8 bits are a quarter of a step apart on average, beside what the colours of the twin lost on their way.
    for (name, mean) in [
        ("p3.png", 0.6),
        ("p3.jpg", 1.5),
        ("adobe.png", 0.6),
        ("adobe.jpg", 1.5),
        ("prophoto.png", 0.8),
        ("prophoto.jpg", 2.0),
        ("gamma1_16bit.png", 0.1),
        ("cicp_p3.png", 0.6),
    ] {
        let far = apart(&quiet(&format!("colour/{name}")), &want);
        assert!(far.1 <= mean, "{name}: {far:?}");
    }
}

/// Against LittleCMS, through Pillow; see make_more.py.
#[test]
fn profiles_of_every_kind_and_in_every_format() {
    for (name, want, most) in [
        // Tables of both versions; the interpolation between their points may differ.
        ("tables2.png", "tables_want.png", 5.0),
        ("tables4.tif", "tables_want.png", 5.0),
        ("p3.webp", "p3_want.png", 1.0),
        ("p3.tif", "p3_want.png", 1.0),
        ("p3.bmp", "p3_want.png", 1.0),
        ("grey.png", "grey_want.png", 0.6),
        // Lossy, at full quality.
        ("camera_adobe.jpg", "adobe_want.png", 20.0),
    ] {
        let far = apart(&quiet(&format!("more/{name}")), &quiet(&format!("more/{want}")));
        assert!(far.0 <= most && far.1 <= 0.8, "{name}: {far:?}");
    }
    // A grey picture in the colours of a profile for RGB: its curve is sRGB's.
    let far = apart(&quiet("more/grey_p3.jpg"), &without(&quiet("more/plain.png")));
    assert!(far.1 <= 1.0, "{far:?}");
}

/// The luma of BT.601, as Pillow makes it.
fn without(colours: &Picture) -> Picture {
    let mut grey = colours.clone();
    for p in grey.data.chunks_exact_mut(4) {
        let luma = 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
        p[..3].fill(luma);
    }
    grey
}

#[test]
fn a_profile_that_cannot_be_used_is_named_once() {
    let plain = quiet("more/plain.png");
    assert_eq!(warned("more/unusable.png", &["'Without colours'", "taken as sRGB"]), plain);
    assert_eq!(warned("more/damaged.png", &["ICC profile of 17 bytes", "taken as sRGB"]), plain);
    for (name, words) in [("more/cmyk.jpg", ["CMYK", "'Some printer'"]), ("more/cmyk.tif", ["CMYK", "without a profile"])] {
        let far = apart(&warned(name, &words), &plain);
        assert!(far.1 < 2.0, "{name}: {far:?}");
    }
}

/// `png` with chunks before its pixels, and others behind them.
fn with_chunks(png: &[u8], before: &[(&[u8; 4], Vec<u8>)], after: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let bytes = |chunks: &[(&[u8; 4], Vec<u8>)]| {
        let mut out = Vec::new();
        for (kind, data) in chunks {
            let body = [kind.as_slice(), data].concat();
            let mut sum = flate2::Crc::new();
            sum.update(&body);
            out.extend([&(data.len() as u32).to_be_bytes(), body.as_slice(), &sum.sum().to_be_bytes()].concat());
        }
        out
    };
    let header = 8 + 12 + 13;
    let end = png.len() - 12;
    [&png[..header], &bytes(before), &png[header..end], &bytes(after), &png[end..]].concat()
}

/// The bytes as a file: what it holds, and its warnings.
fn read(bytes: &[u8]) -> (Picture, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    std::fs::write(&path, bytes).unwrap();
    Picture::open_with_warnings(&path).unwrap()
}

#[test]
fn chunks_of_colour_win_in_the_order_of_the_specification() {
    let plain = std::fs::read(data("more/plain.png")).unwrap();
    let numbers = |values: &[u32]| values.iter().copied().flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
    let (p3, srgb, linear) = ((b"cICP", vec![12, 13, 0, 1]), (b"sRGB", vec![0]), (b"gAMA", numbers(&[100_000])));
    let icc = (b"iCCP", chunk(&std::fs::read(data("colour/adobe.png")).unwrap(), b"iCCP").unwrap());
    let p3_primaries = (b"cHRM", numbers(&[31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000]));
    let usual = (b"gAMA", numbers(&[45455]));
    let same = quiet("more/plain.png");
    let (want_p3, want_adobe) = (quiet("more/p3_want.png"), quiet("more/adobe_want.png"));
    for (what, chunks, want) in [
        ("cICP alone", vec![p3.clone()], &want_p3),
        ("cICP before iCCP", vec![p3.clone(), icc.clone(), linear.clone()], &want_p3),
        ("iCCP before sRGB and gAMA", vec![icc.clone(), linear.clone()], &want_adobe),
        ("sRGB before gAMA", vec![srgb.clone(), linear.clone()], &same),
        ("the usual gAMA is sRGB's curve", vec![usual.clone()], &same),
        ("cHRM with it", vec![usual.clone(), p3_primaries.clone()], &want_p3),
        ("sRGB before cHRM", vec![srgb.clone(), p3_primaries.clone()], &same),
    ] {
        let (have, warnings) = read(&with_chunks(&plain, &chunks, &[]));
        let far = apart(&have, want);
        assert!(warnings.is_empty() && far.0 <= 1.0, "{what}: {far:?} {warnings:?}");
    }
    for (what, chunks, words) in [
        ("high dynamic range", vec![(b"cICP", vec![9, 16, 0, 1])], "cICP chunk (primaries 9, transfer 16"),
        ("limited range", vec![(b"cICP", vec![1, 13, 0, 0])], "limited range"),
        ("unknown primaries", vec![(b"cICP", vec![200, 13, 0, 1])], "primaries 200"),
        ("no gamma", vec![(b"gAMA", numbers(&[1]))], "gAMA chunk (1)"),
        ("a profile that does not unpack", vec![(b"iCCP", b"name\0\0nothing".to_vec())], "iCCP chunk"),
        ("a chunk that is too short", vec![(b"cICP", vec![1])], "cICP chunk"),
        ("no colours", vec![(b"cHRM", numbers(&[0; 8]))], "cHRM chunk"),
    ] {
        let (have, warnings) = read(&with_chunks(&plain, &chunks, &[]));
        assert!(have == same && warnings.len() == 1 && warnings[0].contains(words), "{what}: {warnings:?}");
    }
}

#[test]
fn where_one_statement_cannot_be_used_the_next_counts() {
    let plain = std::fs::read(data("more/plain.png")).unwrap();
    let adobe = (b"iCCP", chunk(&std::fs::read(data("colour/adobe.png")).unwrap(), b"iCCP").unwrap());
    let (have, warnings) = read(&with_chunks(&plain, &[(b"cICP", vec![9, 16, 0, 1]), adobe], &[]));
    assert!(apart(&have, &quiet("more/adobe_want.png")).0 <= 1.0);
    assert!(warnings.len() == 1 && warnings[0].contains("transfer 16") && warnings[0].contains("beside it counts"), "{warnings:?}");
}

/// A profile of grey says nothing of colours: they stay, with a warning.
#[test]
fn a_profile_of_grey_on_a_picture_in_colours() {
    let profile = moxcms::ColorProfile::new_gray_with_gamma(1.8).encode().unwrap();
    let file = |colour: png::ColorType, pixel: &[u8]| {
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(1, 1);
        (info.color_type, info.bit_depth) = (colour, png::BitDepth::Eight);
        info.icc_profile = Some(profile.clone().into());
        png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap().write_image_data(pixel).unwrap();
        bytes
    };
    let (have, warnings) = read(&file(png::ColorType::Rgb, &[255, 0, 0]));
    assert_eq!(have.data, [1.0, 0.0, 0.0, 1.0]);
    assert!(warnings.len() == 1 && warnings[0].contains("Gray") && warnings[0].contains("taken as sRGB"), "{warnings:?}");
    let (have, warnings) = read(&file(png::ColorType::Grayscale, &[128]));
    // 0.502 ^ 1.8 = 0.289 of white, which is 0.575 in sRGB.
    assert!((have.data[0] - 0.575).abs() < 0.005 && warnings.is_empty(), "{:?} {warnings:?}", have.data);
}

/// Found by fuzzing: a note whose length is said to be 256 MB. The seed of the same file is run by scripts/fuzz under a limit of memory.
#[test]
fn a_webp_with_a_chunk_that_is_longer_than_the_file() {
    let e = Picture::open(&data("more/long_chunk.webp")).unwrap_err();
    assert!(e.to_string().contains("long_chunk.webp: is a WebP picture that is cut off"), "{e}");
}

/// Text that unpacks to a thousand times its size is not unpacked for the orientation that may be in it.
#[test]
fn packed_notes_stay_small() {
    let plain = std::fs::read(data("more/plain.png")).unwrap();
    let packed = |text: &[u8]| {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packer, text).unwrap();
        packer.finish().unwrap()
    };
    let note = |text: &str, room: usize| {
        let text = format!("<x tiff:Orientation=\"6\"/>{text}{}", " ".repeat(room));
        [b"XML:com.adobe.xmp\0\x01\0\0\0", packed(text.as_bytes()).as_slice()].concat()
    };
    let turned = |chunk: Vec<u8>| read(&with_chunks(&plain, &[(b"iTXt", chunk)], &[])).0 != quiet("more/plain.png");
    assert!(turned(note("", 1000)));
    assert!(!turned(note("", 64 << 20)));
}

#[test]
fn written_pictures_are_read_as_they_were() {
    // The profile of a written JPEG is sRGB, so that it changes nothing: decoded twice, once without it.
    let jpeg = quiet("more/plain.png").encoded(Encoding::Jpeg).unwrap();
    let at = jpeg.windows(12).position(|w| w == b"ICC_PROFILE\0").unwrap();
    let mut bare = jpeg.clone();
    bare[at..at + 3].copy_from_slice(b"xxx");
    assert_eq!(read(&jpeg), read(&bare));
}

#[test]
fn formats() {
    let want = quiet("formats/same.png");
    for name in ["a.webp", "a.tif", "a.bmp", "webp_named.jpg"] {
        assert_eq!(quiet(&format!("formats/{name}")), want, "{name}");
    }
    // A palette of 256 colours.
    let far = apart(&quiet("formats/a.gif"), &want);
    assert!(far.1 < 1.5, "{far:?}");
    for (name, format) in [("a.webp", "WebP"), ("a.tif", "TIFF"), ("a.bmp", "BMP"), ("a.gif", "GIF"), ("same.png", "PNG")] {
        let about = Picture::look_at(&data(&format!("formats/{name}"))).unwrap();
        assert_eq!((about.format, about.width, about.height, about.transparent), (format, 64, 64, false));
    }
}

#[test]
fn formats_that_are_not_read_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    for (path, name, command) in [
        (data("formats/a.heic"), "an HEIC picture", "heif-convert a.heic a.png"),
        (data("formats/a.avif"), "an AVIF picture", "avifdec a.avif a.png"),
        (data("formats/a.jxl"), "a JPEG XL picture", "djxl a.jxl a.png"),
        (write("b.jxl", b"\xFF\x0A\xFA\x1F"), "a JPEG XL picture", "djxl b.jxl b.png"),
        (write("a b.heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), "an HEIC picture", "heif-convert PICTURE PICTURE.png"),
        (write("c.avif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif"), "an AVIF picture", "avifdec c.avif c.png"),
        (write("a.psd", b"8BPS\0\x01"), "a Photoshop picture", "magick a.psd a.png"),
        (write("a.jp2", b"\0\0\0\x0CjP  \r\n\x87\n"), "a JPEG 2000 picture", "opj_decompress -i a.jp2 -o a.png"),
        (write("a.ppm", b"P6\n1 1\n255\nabc"), "PNM", "magick a.ppm a.png"),
        (write("a.cr2", b"II*\0\x10\0\0\0CR\x02\0"), "CR2", "darktable-cli a.cr2 a.png"),
        (data("more/raw.tif"), "begins with a preview", "darktable-cli raw.tif raw.png"),
        (data("more/palette.tif"), "TIFF picture of a kind that is not read", "magick palette.tif palette.png"),
    ] {
        let e = Picture::open(&path).expect_err(name);
        assert!(e.kind() == Kind::Format && e.to_string().contains(name) && e.to_string().ends_with(command), "{e}");
        assert!(nada::picture::is_picture(&path).unwrap());
    }
    assert!(!nada::picture::is_picture(&write("film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42")).unwrap());
    assert!(!nada::picture::is_picture(&write("words.txt", b"BM is no picture of its own")).unwrap());
}

#[test]
fn of_several_pictures_the_first_is_read_with_a_warning() {
    let plain = quiet("more/plain.png");
    for name in ["film.webp", "film.png"] {
        assert_eq!(warned(&format!("more/{name}"), &["animation"]), plain, "{name}");
    }
    assert_eq!(warned("more/film.gif", &["animation"]), quiet("more/film_want.png"));
    assert_eq!(warned("more/pages.tif", &["several pages"]), plain);
}

#[test]
fn alpha_of_a_tiff_means_what_its_tag_says() {
    let want = quiet("more/alpha_want.png");
    assert_eq!(quiet("more/alpha2.tif"), want);
    let other = quiet("more/alpha0.tif");
    assert!(other.data.chunks_exact(4).zip(want.data.chunks_exact(4)).all(|(a, b)| a[..3] == b[..3] && a[3] == 1.0));
    // Multiplied colours have few steps where alpha is small.
    let times = quiet("more/alpha1.tif");
    for (have, want) in times.data.chunks_exact(4).zip(want.data.chunks_exact(4)) {
        assert_eq!(have[3], want[3]);
        for (a, b) in have.iter().zip(want).take(3) {
            assert!((a - b).abs() * want[3] * 255.0 <= 0.51, "{have:?} {want:?}");
        }
    }
}

#[test]
fn files_that_are_cut_off_are_refused_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.webp", "a.tif", "a.bmp", "a.gif", "same.png"] {
        let whole = std::fs::read(data(&format!("formats/{name}"))).unwrap();
        for part in [1, 2, 3] {
            let path = folder.path().join(name);
            std::fs::write(&path, &whole[..whole.len() * part / 4]).unwrap();
            for e in [Picture::open(&path).err(), Picture::open_square(&path, 16).err(), Picture::look_at(&path).err()] {
                let e = e.unwrap_or_else(|| panic!("{part}/4 of {name}"));
                assert!(e.kind() == Kind::Format && e.to_string().contains(name), "{e}");
            }
        }
    }
}

#[test]
fn a_jpeg_without_its_end_marker_is_whole() {
    let want = quiet("jpeg_end/whole.jpg");
    for name in ["no_end.jpg", "no_end_zeros.jpg", "progressive_no_end.jpg"] {
        let far = apart(&warned(&format!("jpeg_end/{name}"), &["no end marker"]), &want);
        assert!(far.1 < 0.01, "{name}: {far:?}");
    }
    // Half of the marker, or much behind it.
    let whole = std::fs::read(data("jpeg_end/whole.jpg")).unwrap();
    let (picture, warnings) = read(&whole[..whole.len() - 1]);
    assert!(picture == want && warnings.len() == 1, "{warnings:?}");
    let (picture, warnings) = read(&[&whole[..], b"a film", &whole].concat());
    assert!(picture == want && warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_jpeg_that_is_coded_as_zeros_is_whole() {
    let file = std::fs::read(data("more/flat.jpg")).unwrap();
    assert!(file[file.len() - 64..file.len() - 2].iter().all(|b| *b == 0), "{:?}", &file[file.len() - 64..]);
    let flat = quiet("more/flat.jpg");
    assert!((pixel(&flat, flat.width - 1, flat.height - 1)[0] * 255.0 - 200.0).abs() <= 1.0);
}

#[test]
fn a_jpeg_without_all_of_its_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.jpg");
    for name in ["half.jpg", "half_with_end.jpg"] {
        let e = Picture::open(&data(&format!("jpeg_end/{name}"))).unwrap_err();
        assert!(e.to_string().contains("(after about 40 of 96)"), "{e}");
    }
    // Wherever the coded data of a scan ends early, and whatever pretends to be its end. The last scan of the progressive one is short.
    for (name, lost) in [("whole.jpg", [16, 40, 400, 1500]), ("progressive_no_end.jpg", [16, 40, 200, 400])] {
        let whole = std::fs::read(data(&format!("jpeg_end/{name}"))).unwrap();
        let coded = whole.strip_suffix(b"\xFF\xD9").unwrap_or(&whole);
        for bytes in lost {
            for end in [&b""[..], b"\xFF\xD9", &[0; 512], b"\0\0\0\0\xFF\xD9"] {
                std::fs::write(&path, [&coded[..coded.len() - bytes], end].concat()).unwrap();
                let e = Picture::open(&path).expect_err(&format!("{name} without {bytes} bytes, then {} bytes", end.len()));
                assert!(e.to_string().contains("cut off"), "{e}");
            }
        }
    }
}

#[test]
fn a_png_without_its_end_is_whole_too() {
    let png = std::fs::read(data("more/plain.png")).unwrap();
    let (picture, warnings) = read(&png[..png.len() - 12]);
    assert!(picture == quiet("more/plain.png"));
    assert!(warnings.len() == 1 && warnings[0].contains("has no end marker"), "{warnings:?}");
}

/// Exif that holds an orientation alone, in either byte order.
fn oriented(orientation: u8, big: bool) -> Vec<u8> {
    let o = orientation;
    match big {
        true => [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[o, 0, 0, 0, 0, 0, 0]].concat(),
        false => [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[o, 0, 0, 0, 0, 0, 0, 0]].concat(),
    }
}

/// `p` as each of the eight values of Exif's tag says that it is to be seen (Exif 2.32, 4.6.4): where the first row and column are.
fn seen(p: &Picture, orientation: u8) -> Picture {
    let (w, h) = (p.width, p.height);
    let (width, height) = if orientation < 5 { (w, h) } else { (h, w) };
    let mut out = Picture::filled(width, height, [0.0; 4]).unwrap();
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = match orientation {
                1 => (x, y),
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                _ => (w - 1 - y, x),
            };
            out.data[(y * width + x) * 4..][..4].copy_from_slice(&pixel(p, from_x, from_y));
        }
    }
    out
}

#[test]
fn a_picture_is_turned_wherever_its_file_says_so() {
    let (before, after) = (quiet("exif/orientation_before_pixels.png"), quiet("exif/orientation_after_pixels.png"));
    assert_eq!((before.width, before.height), (64, 96));
    assert_eq!(before, after);
    let want = quiet("more/turned_want.png");
    for name in ["turned.webp", "turned.tif"] {
        assert_eq!(quiet(&format!("more/{name}")), want, "{name}");
    }
    assert!(apart(&quiet("more/turned_xmp.jpg"), &want).1 < 1.5);

    let photo = std::fs::read(data("photo.png")).unwrap();
    let upright = quiet("photo.png");
    let magick = |exif: &[u8]| {
        let digits: String = exif.iter().map(|b| format!("{b:02x}")).collect();
        [&b"Raw profile type exif\0"[..], format!("\nexif\n{:8}\n{digits}\n", exif.len()).as_bytes()].concat()
    };
    for orientation in 1..=8 {
        let want = seen(&upright, orientation);
        let exif = oriented(orientation, orientation % 2 == 0);
        let prefixed = [&b"Exif\0\0"[..], &exif].concat();
        let xmp = format!("XML:com.adobe.xmp\0\0\0\0\0<a tiff:Orientation='{orientation}'/>").into_bytes();
        for (what, png) in [
            ("before", with_chunks(&photo, &[(b"eXIf", exif.clone())], &[])),
            ("behind", with_chunks(&photo, &[], &[(b"eXIf", exif.clone())])),
            ("with JPEG's prefix", with_chunks(&photo, &[], &[(b"eXIf", prefixed)])),
            ("in text", with_chunks(&photo, &[(b"tEXt", magick(&exif))], &[])),
            ("in XMP", with_chunks(&photo, &[(b"iTXt", xmp)], &[])),
        ] {
            let (have, warnings) = read(&png);
            assert!(have == want && warnings.is_empty(), "{orientation} {what} {warnings:?}");
        }
    }
}

/// The largest difference of two pictures' numbers.
fn farthest(a: &Picture, b: &Picture) -> f32 {
    steps_apart(a, b) / 255.0
}

#[test]
fn the_square_of_a_file_is_that_of_its_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    let photo = std::fs::read(data("photo.png")).unwrap();
    let mut files: Vec<Vec<u8>> = (1..=8).map(|o| with_chunks(&photo, &[], &[(b"eXIf", oriented(o, false))])).collect();
    for name in [
        "photo.jpg",
        "turned.jpg",
        "grey16.png",
        "rgba16.png",
        "palette.png",
        "colour/p3.png",
        "colour/prophoto.jpg",
        "colour/gamma1_16bit.png",
        "formats/a.webp",
        "formats/a.gif",
        "formats/a.bmp",
        "more/turned.tif",
        "more/tables4.tif",
        "more/alpha1.tif",
        "transparent/partly_clear.png",
    ] {
        files.push(std::fs::read(data(name)).unwrap());
    }
    // Larger than a band of rows, with an odd number of columns too many.
    let mut wide = Picture::filled(1501, 1200, [0.0, 0.0, 0.0, 1.0]).unwrap();
    wide.data.iter_mut().enumerate().for_each(|(i, v)| *v = if i % 4 == 3 { *v } else { (i as f32 * 0.37).sin().abs() });
    files.push(wide.encoded(Encoding::Png).unwrap());
    files.push(wide.encoded(Encoding::Jpeg).unwrap());
    for (i, file) in files.iter().enumerate() {
        std::fs::write(&path, file).unwrap();
        let whole = Picture::open(&path).unwrap();
        let side = whole.width.min(whole.height);
        for most in [1, 7, 16, side - 1, side, side + 1, 9999] {
            let (have, _) = Picture::open_square(&path, most).unwrap();
            let want = whole.square(side.min(most)).unwrap();
            let far = farthest(&have, &want);
            assert!(far <= 2e-6, "file {i}, {most}: {far}");
        }
        assert_eq!(Picture::size_of_file(&path).unwrap(), (whole.width, whole.height));
    }
    let e = Picture::open_square(&path, 0).unwrap_err();
    assert_eq!(e.kind(), Kind::InvalidArgument, "{e}");
}

#[test]
fn photos_of_telephones_and_scans_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [("108_megapixels.png", (12000, 9000)), ("71_megapixels.jpg", (9216, 7680))] {
        let path = folder.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        let packed = std::fs::File::open(data(&format!("large/{name}.gz"))).unwrap();
        std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut file).unwrap();
        assert_eq!(Picture::size_of_file(&path).unwrap(), size);
        let (square, warnings) = Picture::open_square(&path, 128).unwrap();
        assert!(warnings.is_empty() && (square.width, square.height) == (128, 128));
        let at = |x: usize, y: usize| pixel(&square, x, y)[0] * 255.0;
        // By Pillow: 130, and in the middle 200; the JPEG has 128 and 198.
        for (x, y, want) in [(0, 0, 130.0), (20, 100, 130.0), (127, 127, 130.0), (63, 63, 200.0), (64, 64, 200.0)] {
            assert!((at(x, y) - want).abs() <= 2.01, "{name} ({x}, {y}): {}", at(x, y));
        }
        let lit = (0..128).filter(|x| at(*x, 64) > 165.0).count();
        assert!((6..=7).contains(&lit), "{name}: {lit}");
        let e = Picture::open(&path).unwrap_err();
        let magick = format!("magick {name} -resize 8000x8000");
        assert!(e.to_string().contains("67108864") && e.to_string().contains(&magick), "{e}");
    }
}

#[test]
fn a_square_without_anything_to_see_is_told() {
    for (name, empty) in [("all_clear.png", true), ("clear_middle.png", true), ("partly_clear.png", false)] {
        let picture = quiet(&format!("transparent/{name}"));
        match picture.check_visible() {
            Ok(()) => assert!(!empty, "{name}"),
            Err(e) => assert!(empty && e.kind() == Kind::InvalidArgument && e.to_string().contains("the picture is empty there"), "{e}"),
        }
    }
}
