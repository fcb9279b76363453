//! Parts of pictures: shrunk as whole pictures are, and drawn back without a trace outside of the frame.

use nada::error::Kind;
use nada::picture::frame::{Blend, Canvas, Frame, Hard};
use nada::picture::pixels::{self, Format, Layout, Transfer};
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

/// The pixels (11, 5) to (52, 46), without.
const PART: Frame = Frame { centre: [31.5, 25.5], side: 41.0, angle: 0.0 };

#[test]
fn shrinking_a_part_is_cropping_and_resizing() {
    for format in FORMATS {
        for transfer in TRANSFERS {
            let (mut bytes, layout) = buffer(&sample(64, 60, true), format, transfer);
            let whole = pixels::read(&bytes, &layout).unwrap();
            let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
            assert_eq!(PART, Frame::upright(11, 5, 41));
            let cropped = whole.cropped(11, 5, 41, 41).unwrap();
            for side in [1, 8, 33, 40] {
                assert!(canvas.shrunk(PART, side).unwrap() == cropped.resized(side, side).unwrap(), "{format:?} {transfer:?} {side}");
            }
            assert!(canvas.shrunk(PART, 41).unwrap() == cropped && canvas.shrunk(PART, 99).unwrap() == cropped);
        }
    }
}

/// Larger than a band of rows.
#[test]
fn bands_join_without_a_seam() {
    let picture = sample(1500, 1400, false);
    let (mut bytes, layout) = buffer(&picture, Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    let all = canvas.frame(None).unwrap();
    let want = picture.cropped(50, 0, 1400, 1400).unwrap();
    assert!(canvas.shrunk(all, 128).unwrap() == want.resized(128, 128).unwrap());
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

/// For every pair of formats: nothing outside of the frame changes, nor the padding.
#[test]
fn only_the_frame_is_written() {
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
                let mut changed = 0;
                for y in 0..60 {
                    let row = |bytes: &[u8]| {
                        bytes[y * out_layout.stride..][..out_layout.stride.min(bytes.len() - y * out_layout.stride)].to_vec()
                    };
                    let (have, old, new) = (row(&out), row(&before), row(&converted));
                    assert_eq!(have[64 * size..], old[64 * size..], "padding");
                    for x in 0..64 {
                        let pixel = |row: &[u8]| row[x * size..][..size].to_vec();
                        if !((11..52).contains(&x) && (5..46).contains(&y)) {
                            assert_eq!(pixel(&have), pixel(&old), "{from:?} {to:?} ({x}, {y})");
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
        assert_eq!(pixel(&layer, 10, 20), pixel(&source, 10, 20), "outside of the frame nothing is written");
        let clear = draw(Blend { replace: true, opacity: 0.0, ..soft }, &mut bytes, &mut out);
        assert_eq!(pixel(&clear, 31, 25), [0.0; 4], "a layer that is not seen is clear");
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
    picture.data[4 * (64 * 30 + 12)] = f32::NAN;
    let mut layout = Layout::packed(64, 60, Format::Rgba32F, Transfer::Srgb);
    let mut bytes: Vec<u8> = picture.data.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let mut out = vec![9; bytes.len()];
    let source = Canvas::new(cells(&mut bytes), layout).unwrap();
    layout.format = Format::Rgba8;
    let target = Canvas::new(cells(&mut out), layout).unwrap();
    let turned = Frame { angle: 12.0, ..PART };
    for frame in [PART, turned] {
        let e = plain().draw(source, frame, &drawn, target).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains("(12, 30)"), "{e}");
        let e = source.shrunk(frame, 16).unwrap_err();
        assert!(e.to_string().contains("(12, 30)"), "{e}");
    }
    let elsewhere = Frame { centre: [40.0, 25.0], side: 30.0, angle: 0.0 };
    assert!(source.shrunk(elsewhere, 16).is_ok(), "that part has no such pixel");
    let nan = f64::NAN;
    for (frame, words) in [
        (Frame { centre: [64.5, 5.0], ..PART }, "(64.5, 5)"),
        (Frame { centre: [5.0, -1.0], ..PART }, "(5, -1)"),
        (Frame { centre: [nan, 5.0], ..PART }, "finite"),
        (Frame { angle: f64::INFINITY, ..PART }, "finite"),
        (Frame { side: 0.5, ..PART }, "[1, 128]"),
        (Frame { side: 1e300, ..PART }, "[1, 128]"),
        (Frame { side: nan, ..PART }, "finite"),
    ] {
        for e in [source.shrunk(frame, 16).unwrap_err(), plain().draw(source, frame, &drawn, target).unwrap_err()] {
            assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains(words), "{e}");
        }
    }
    assert!(out.iter().all(|b| *b == 9));
}

/// R, G and B are linear in x and y, which the kernel keeps: at a point of the picture they are these.
fn slope(x: f64, y: f64) -> [f32; 3] {
    [0.2 + 0.004 * x + 0.002 * y, 0.9 - 0.005 * y, 0.1 + 0.003 * (x + y)].map(|v| v as f32)
}

fn slopes(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height).flat_map(|i| {
        let [r, g, b] = slope((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
        [r, g, b, 1.0]
    });
    Picture { width, height, data: pixels.collect() }
}

/// Where (u, v) of a frame lies, by the definition: clockwise, with y down.
fn point(frame: Frame, u: f64, v: f64) -> [f64; 2] {
    let (sin, cos) = frame.angle.to_radians().sin_cos();
    let (u, v) = (u - frame.side / 2.0, v - frame.side / 2.0);
    [frame.centre[0] + u * cos - v * sin, frame.centre[1] + u * sin + v * cos]
}

#[test]
fn a_turned_frame_shows_what_lies_there() {
    let (mut bytes, layout) = buffer(&slopes(100, 90), Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    for (side, most) in [(40.0, 40), (40.0, 16), (33.3, 33), (20.0, 64)] {
        for angle in [30.0, -117.0, 45.0, 0.0] {
            let frame = Frame { centre: [50.2, 44.7], side, angle };
            let picture = canvas.shrunk(frame, most).unwrap();
            let (wide, ratio) = (picture.width, side / picture.width as f64);
            assert_eq!((wide, picture.height), (most.min(side.round() as usize), wide));
            for (i, pixel) in picture.data.chunks(4).enumerate() {
                let [x, y] = point(frame, ((i % wide) as f64 + 0.5) * ratio, ((i / wide) as f64 + 0.5) * ratio);
                let far = pixel.iter().zip(slope(x, y)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Between pixels a line is kept to the kernel's rounding of its weights' sum; a wide kernel samples it more coarsely.
                assert!(far < 2e-3 && pixel[3] == 1.0, "{frame:?} {most} ({x}, {y}): {pixel:?}");
            }
        }
    }
}

/// Upright, but between the ways: what the exact ways give is met.
#[test]
fn a_quarter_turn_and_a_whole_one_are_exact() {
    let picture = sample(64, 60, true);
    let (mut bytes, layout) = buffer(&picture, Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    for most in [41, 20, 8] {
        let upright = canvas.shrunk(PART, most).unwrap();
        let near = |frame: Frame, at: &dyn Fn(usize, usize) -> usize, border: usize| {
            let turned = canvas.shrunk(frame, most).unwrap();
            for y in border..most - border {
                for x in border..most - border {
                    let (have, want) = (&turned.data[(y * most + x) * 4..][..4], &upright.data[at(x, y) * 4..][..4]);
                    let far = have.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 1e-4, "{frame:?} {most} ({x}, {y}): {have:?} is not {want:?}");
                }
            }
        };
        // At the edges the exact way stops where the other one goes on into the picture.
        near(Frame { angle: 360.0, ..PART }, &|x, y| y * most + x, 2);
        near(Frame { angle: 90.0, ..PART }, &|x, y| x * most + most - 1 - y, 2);
        near(Frame { angle: 180.0, ..PART }, &|x, y| (most - 1 - y) * most + most - 1 - x, 2);
    }
}

/// Detail that the result is too small for becomes grey, whatever the angle.
#[test]
fn shrinking_a_turned_frame_makes_no_moire() {
    let checks = Picture {
        width: 200,
        height: 200,
        data: (0..200 * 200).flat_map(|i| if (i % 200 + i / 200) % 2 == 0 { [1.0; 4] } else { [0.0, 0.0, 0.0, 1.0] }).collect(),
    };
    let (mut bytes, layout) = buffer(&checks, Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    for angle in [0.5, 17.0, 45.0, 80.0] {
        let picture = canvas.shrunk(Frame { centre: [100.0, 100.0], side: 128.0, angle }, 32).unwrap();
        assert!(picture.data.chunks(4).all(|p| (p[0] - 0.5).abs() < 0.02), "{angle}");
    }
}

#[test]
fn a_frame_beyond_the_picture_goes_on_with_its_edge() {
    let (mut bytes, layout) = buffer(&slopes(40, 30), Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    for angle in [0.0, 90.0] {
        let picture = canvas.shrunk(Frame { centre: [4.0, 4.0], side: 40.0, angle }, 40).unwrap();
        let corner = &picture.data[..3];
        let want = if angle == 0.0 { slope(0.5, 0.5) } else { slope(23.5, 0.5) };
        let far = corner.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{angle}: {corner:?} is not {want:?}");
    }
}

/// What a frame shows, drawn back, is what was there; nothing outside is touched; a layer's alpha is that of the frame's distances.
#[test]
fn a_turned_frame_is_drawn_back_where_it_was() {
    let (width, height) = (120, 100);
    let picture = slopes(width, height);
    for (format, tolerance) in [(Format::Rgba32F, 2e-3), (Format::Rgba8, 5e-3)] {
        let (mut bytes, layout) = buffer(&picture, format, Transfer::Srgb);
        let frame = Frame { centre: [61.3, 52.1], side: 50.0, angle: 33.0 };
        let before = bytes.clone();
        let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
        let seen = canvas.shrunk(frame, 50).unwrap();
        plain().draw(canvas, frame, &seen, canvas).unwrap();
        let after = pixels::read(&bytes, &layout).unwrap();
        let far = after.data.iter().zip(&picture.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < tolerance, "{format:?}: {far}");

        let red = Picture::filled(8, 8, [1.0, 0.0, 0.0, 1.0]).unwrap();
        let (mut source, mut out) = (before.clone(), before.clone());
        let (source, target) = (Canvas::new(cells(&mut source), layout).unwrap(), Canvas::new(cells(&mut out), layout).unwrap());
        let soft = Blend { feather: 10.0, replace: true, hard: Hard { top: true, ..Hard::default() }, opacity: 0.8 };
        soft.draw(source, frame, &red, target).unwrap();
        let layer = pixels::read(&out, &layout).unwrap();
        let unchanged = pixels::read(&before, &layout).unwrap();
        let (mut inside, mut outside) = (0, 0);
        for (i, (have, old)) in layer.data.chunks(4).zip(unchanged.data.chunks(4)).enumerate() {
            let (sin, cos) = frame.angle.to_radians().sin_cos();
            let (x, y) = ((i % width) as f64 + 0.5 - frame.centre[0], (i / width) as f64 + 0.5 - frame.centre[1]);
            let (u, v) = (x * cos + y * sin + 25.0, -x * sin + y * cos + 25.0);
            let least = [u, 50.0 - u, v, 50.0 - v].into_iter().fold(f64::INFINITY, f64::min);
            if least <= -0.5 {
                assert_eq!(have, old, "({x}, {y}) is outside");
                outside += 1;
            } else if least >= 0.5 {
                let step = |d: f64| (d / 10.0).clamp(0.0, 1.0).powi(2) * (3.0 - 2.0 * (d / 10.0).clamp(0.0, 1.0));
                let want = 0.8 * step(u.min(50.0 - u)) * step(50.0 - v);
                assert!((f64::from(have[3]) - want).abs() < 3e-3, "({x}, {y}): {have:?}, want {want}");
                assert!(want < 0.01 || (have[0] > 0.99 && have[1] < 0.01), "({x}, {y}): {have:?}");
                inside += 1;
            }
        }
        assert!(inside > 2300 && outside > 9000, "{inside} {outside}");
    }
}

/// The part of a pixel that a hard edge covers: an upright frame between the pixels.
#[test]
fn pixels_that_are_covered_in_part_are_blended_in_part() {
    let black = Picture::filled(30, 30, [0.0, 0.0, 0.0, 1.0]).unwrap();
    let (mut bytes, layout) = buffer(&black, Format::Rgba32F, Transfer::Srgb);
    let canvas = Canvas::new(cells(&mut bytes), layout).unwrap();
    let white = Picture::filled(4, 4, [1.0; 4]).unwrap();
    plain().draw(canvas, Frame { centre: [15.25, 15.0], side: 10.0, angle: 0.0 }, &white, canvas).unwrap();
    let out = pixels::read(&bytes, &layout).unwrap();
    let row: Vec<f32> = (9..22).map(|x| out.data[(15 * 30 + x) * 4]).collect();
    let want = [0.0, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.25, 0.0];
    assert!(row.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{row:?}");
}
