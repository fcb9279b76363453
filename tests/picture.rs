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
    assert!(e.to_string().contains("folder.png"), "{e}");
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
    assert_eq!(Picture::from_tensor(&zeros(&[1, 4, 4, 4]), 0).unwrap_err().kind(), Kind::InvalidArgument);
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
    let far: Vec<f32> = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs() * 255.0).collect();
    (far.iter().copied().fold(0.0, f32::max), far.iter().sum::<f32>() / far.len() as f32 * 4.0 / 3.0)
}

/// Without warnings.
fn quiet(name: &str) -> Picture {
    let (picture, warnings) = Picture::open_with_warnings(&data(name)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    picture
}

#[test]
fn what_a_file_says_of_its_colours_counts() {
    let want = quiet("colour/srgb.png");
    for (name, mean) in [
        ("p3.png", 1.0),
        ("p3.jpg", 2.0),
        ("adobe.png", 1.0),
        ("adobe.jpg", 2.0),
        ("prophoto.png", 1.0),
        ("prophoto.jpg", 2.0),
        ("gamma1_16bit.png", 1.0),
        ("cicp_p3.png", 1.0),
    ] {
        let far = apart(&quiet(&format!("colour/{name}")), &want);
        println!("{name} {far:?}");
        assert!(far.1 <= mean, "{name}: {far:?}");
    }
}

#[test]
fn formats() {
    let want = quiet("formats/same.png");
    for name in ["a.webp", "a.tif", "a.bmp", "webp_named.jpg", "a.gif"] {
        let far = apart(&quiet(&format!("formats/{name}")), &want);
        println!("{name} {far:?}");
    }
    for name in ["a.avif", "a.heic", "a.jxl"] {
        println!("{}", Picture::open(&data(&format!("formats/{name}"))).unwrap_err());
    }
}

#[test]
fn ends() {
    let want = quiet("jpeg_end/whole.jpg");
    for name in ["no_end.jpg", "no_end_zeros.jpg", "progressive_no_end.jpg", "half.jpg", "half_with_end.jpg"] {
        match Picture::open_with_warnings(&data(&format!("jpeg_end/{name}"))) {
            Ok((p, w)) => println!("{name} {:?} {w:?}", apart(&p, &want)),
            Err(e) => println!("{e}"),
        }
    }
}
