//! Parts of pictures: shrunk as whole pictures are, and drawn back without a trace outside of the square.

use nada::error::Kind;
use nada::picture::pixels::{self, Format, Layout, Transfer};
use nada::picture::region::{Blend, Canvas, Hard, Region};
use nada::picture::Picture;
use std::cell::Cell;

const FORMATS: [Format; 7] = [Format::Rgb8, Format::Rgba8, Format::Bgra8, Format::Gray8, Format::Rgb16, Format::Rgba16, Format::Rgba32F];
const TRANSFERS: [Transfer; 2] = [Transfer::Srgb, Transfer::Linear];

fn cells(bytes: &mut [u8]) -> &[Cell<u8>] {
    Cell::from_mut(bytes).as_slice_of_cells()
}

/// A picture with structure in every channel; alpha too where `alpha` says so.
fn sample(width: usize, height: usize, alpha: bool) -> Picture {
    let mut data = Vec::new();
    for i in 0..width * height {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        let wave = |a: f32, b: f32| 0.5 + 0.5 * (a * x + b * y).sin();
        data.extend([wave(0.3, 0.1), wave(0.05, 0.4), wave(0.2, -0.2), if alpha { wave(0.02, 0.3) } else { 1.0 }]);
    }
    Picture { width, height, data }
}

/// `picture` in a buffer with padding between the rows.
fn buffer(picture: &Picture, format: Format, transfer: Transfer) -> (Vec<u8>, Layout) {
    let mut layout = Layout::packed(picture.width, picture.height, format, transfer);
    layout.stride += 13;
    let mut bytes = vec![0xa5; layout.bytes().unwrap()];
    pixels::write(picture, &mut bytes, &layout).unwrap();
    (bytes, layout)
}

fn plain() -> Blend {
    Blend { feather: 0.0, hard: Hard::default(), opacity: 1.0, replace: false }
}

const PART: Region = Region { x: 7, y: 5, width: 50, height: 41 };

#[test]
fn shrinking_a_part_is_cropping_and_resizing() {
    for format in FORMATS {
        for transfer in TRANSFERS {
            let (mut bytes, layout) = buffer(&sample(64, 60, true), format, transfer);
            let whole = pixels::read(&bytes, &layout).unwrap();
            let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
            let square = PART.square();
            assert_eq!(square, Region { x: 11, y: 5, width: 41, height: 41 });
            let cropped = whole.cropped(11, 5, 41, 41).unwrap();
            for side in [1, 8, 33, 40] {
                assert!(canvas.shrunk(square, side).unwrap() == cropped.resized(side, side).unwrap(), "{format:?} {transfer:?} {side}");
            }
            assert!(canvas.shrunk(square, 41).unwrap() == cropped && canvas.shrunk(square, 99).unwrap() == cropped);
        }
    }
}

/// Larger than a band of rows.
#[test]
fn bands_join_without_a_seam() {
    let picture = sample(1500, 1400, false);
    let (mut bytes, layout) = buffer(&picture, Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    let all = canvas.region(None).unwrap();
    let want = picture.cropped(50, 0, 1400, 1400).unwrap();
    assert!(canvas.shrunk(all.square(), 128).unwrap() == want.resized(128, 128).unwrap());
    let drawn = sample(128, 128, false);
    let mut out = bytes.clone();
    let (source, target) = (Canvas::new(cells(&mut bytes), layout).unwrap(), Canvas::new(cells(&mut out), layout).unwrap());
    plain().draw(source, all, &drawn, target).unwrap();
    let have = pixels::read(&out, &layout).unwrap().cropped(50, 0, 1400, 1400).unwrap();
    let want = drawn.resized(1400, 1400).unwrap();
    let far = have.data.iter().zip(&want.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The same sums in another order.
    assert!(far < 1e-5, "{far}");
}

/// For every pair of formats: nothing outside of the region changes, nor the padding; in it, the square blends and the rest is the source.
#[test]
fn only_the_region_is_written() {
    let drawn = sample(16, 16, false);
    let blend = Blend { feather: 6.0, opacity: 0.75, ..plain() };
    for from in FORMATS {
        for to in FORMATS {
            for transfer in TRANSFERS {
                let (mut bytes, layout) = buffer(&sample(64, 60, true), from, transfer);
                let (before, out_layout) = buffer(&sample(64, 60, false), to, Transfer::Srgb);
                let mut out = before.clone();
                let (source, target) = (Canvas::new(cells(&mut bytes), layout).unwrap(), Canvas::new(cells(&mut out), out_layout).unwrap());
                blend.draw(source, PART, &drawn, target).unwrap();
                let source = pixels::read(&bytes, &layout).unwrap();
                // What the source is in the target's format.
                let mut converted = before.clone();
                pixels::write(&source, &mut converted, &out_layout).unwrap();
                let size = to.bytes_per_pixel();
                let (mut changed, square) = (0, PART.square());
                for y in 0..60 {
                    let row = |bytes: &[u8]| {
                        bytes[y * out_layout.stride..][..out_layout.stride.min(bytes.len() - y * out_layout.stride)].to_vec()
                    };
                    let (have, old, new) = (row(&out), row(&before), row(&converted));
                    assert_eq!(have[64 * size..], old[64 * size..], "padding");
                    for x in 0..64 {
                        let pixel = |row: &[u8]| row[x * size..][..size].to_vec();
                        let within = |r: Region| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
                        if !within(PART) {
                            assert_eq!(pixel(&have), pixel(&old), "{from:?} {to:?} ({x}, {y})");
                        } else if !within(square) {
                            assert_eq!(pixel(&have), pixel(&new), "{from:?} {to:?} ({x}, {y})");
                        } else {
                            changed += (pixel(&have) != pixel(&new)) as usize;
                        }
                    }
                }
                assert!(changed > 41 * 41 / 2, "{from:?} {to:?}: {changed}");
            }
        }
    }
}

#[test]
fn the_mixture_is_that_of_feather_and_opacity() {
    let (picture, drawn) = (Picture::filled(64, 60, [0.2, 0.4, 0.6, 1.0]).unwrap(), Picture::filled(16, 16, [1.0, 0.0, 0.5, 1.0]).unwrap());
    let (bytes, layout) = buffer(&picture, Format::Rgba32F, Transfer::Srgb);
    let at = |blend: Blend, x: usize, y: usize| {
        let (mut bytes, mut out) = (bytes.clone(), bytes.clone());
        let (source, target) = (Canvas::new(cells(&mut bytes), layout).unwrap(), Canvas::new(cells(&mut out), layout).unwrap());
        blend.draw(source, PART, &drawn, target).unwrap();
        let picture = pixels::read(&out, &layout).unwrap();
        let p = &picture.data[(y * 64 + x) * 4..][..4];
        [p[0], p[1], p[2], p[3]]
    };
    let near = |have: [f32; 4], want: [f32; 4]| {
        assert!(have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{have:?} is not {want:?}");
    };
    let mixed = |w: f32| [0.2 + w * 0.8, 0.4 - w * 0.4, 0.6 - w * 0.1, 1.0];
    // Position 2 of a feather of 8 pixels, in the middle of the other side.
    let t = 2.5f32 / 8.0;
    let step = t * t * (3.0 - 2.0 * t);
    let soft = Blend { feather: 8.0, ..plain() };
    near(at(soft, 13, 25), mixed(step));
    near(at(soft, 49, 25), mixed(step));
    near(at(soft, 31, 7), mixed(step));
    near(at(soft, 13, 7), mixed(step * step));
    near(at(soft, 31, 25), mixed(1.0));
    near(at(Blend { opacity: 0.25, ..soft }, 31, 25), mixed(0.25));
    let hard = Hard { left: true, ..Hard::default() };
    near(at(Blend { hard, ..soft }, 11, 25), mixed(1.0));
    near(at(Blend { hard, ..soft }, 49, 25), mixed(step));
    near(at(plain(), 11, 5), mixed(1.0));
    near(at(plain(), 10, 5), mixed(0.0));
    near(at(Blend { opacity: 0.0, ..plain() }, 31, 25), mixed(0.0));
}

#[test]
fn alpha_is_carried_and_makes_the_layer() {
    let (drawn, source) = (sample(16, 16, false), sample(64, 60, true));
    for format in [Format::Rgba8, Format::Bgra8, Format::Rgba16, Format::Rgba32F] {
        let (mut bytes, layout) = buffer(&source, format, Transfer::Srgb);
        let source = pixels::read(&bytes, &layout).unwrap();
        let mut out = bytes.clone();
        let soft = Blend { feather: 5.0, ..plain() };
        let draw = |blend: Blend, bytes: &mut [u8], out: &mut [u8]| {
            let (source, target) = (Canvas::new(cells(bytes), layout).unwrap(), Canvas::new(cells(out), layout).unwrap());
            blend.draw(source, PART, &drawn, target).unwrap();
            pixels::read(out, &layout).unwrap()
        };
        let blended = draw(soft, &mut bytes, &mut out);
        for (i, (p, q)) in blended.data.chunks(4).zip(source.data.chunks(4)).enumerate() {
            assert_eq!(p[3], q[3], "{format:?} {i}");
        }
        // The layer over the source is the blend, where the source is opaque; colours of the two are those of the drawing.
        let layer = draw(Blend { replace: true, opacity: 0.5, ..soft }, &mut bytes, &mut out);
        let pixel = |p: &Picture, x: usize, y: usize| p.data[(y * 64 + x) * 4..][..4].to_vec();
        assert_eq!(pixel(&layer, 8, 20), [0.0; 4], "the region outside of the square is clear");
        assert_eq!(pixel(&layer, 3, 20), pixel(&source, 3, 20), "outside of the region nothing is written");
        let (have, want) = (pixel(&layer, 31, 25)[3], 0.5 * pixel(&source, 31, 25)[3]);
        assert!((have - want).abs() <= 0.5 / 255.0, "{format:?}: {have} is not {want}");
    }
}

/// Source and target the same pixels: the same result as apart.
#[test]
fn in_place() {
    let drawn = sample(16, 16, false);
    for format in FORMATS {
        for transfer in TRANSFERS {
            let (mut bytes, layout) = buffer(&sample(64, 60, true), format, transfer);
            let (mut apart, mut same) = (bytes.clone(), bytes.clone());
            let blend = Blend { feather: 4.0, ..plain() };
            blend
                .draw(Canvas::new(cells(&mut bytes), layout).unwrap(), PART, &drawn, Canvas::new(cells(&mut apart), layout).unwrap())
                .unwrap();
            let canvas = Canvas::new(cells(&mut same), layout).unwrap();
            blend.draw(canvas, PART, &drawn, canvas).unwrap();
            assert!(apart == same, "{format:?} {transfer:?}");
            assert!(same != bytes);
        }
    }
}

#[test]
fn what_is_wrong_is_told_before_anything_is_written() {
    let drawn = sample(16, 16, false);
    let mut picture = sample(64, 60, true);
    picture.data[4 * (64 * 30 + 8)] = f32::NAN; // in the region, outside of the square
    let mut layout = Layout::packed(64, 60, Format::Rgba32F, Transfer::Srgb);
    let mut bytes: Vec<u8> = picture.data.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let mut out = vec![9; bytes.len()];
    let source = Canvas::new(cells(&mut bytes), layout).unwrap();
    layout.format = Format::Rgba8;
    let target = Canvas::new(cells(&mut out), layout).unwrap();
    let e = plain().draw(source, PART, &drawn, target).unwrap_err();
    assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains("(8, 30)"), "{e}");
    assert!(out.iter().all(|b| *b == 9));
    assert!(source.shrunk(PART.square(), 16).is_ok(), "the square has no such pixel");
    let e = source.shrunk(PART, 16).unwrap_err();
    assert!(e.to_string().contains("(8, 30)"), "{e}");
}
