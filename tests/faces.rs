//! Faces: found, aligned and put back as the published code does it.

mod common;

use candle_core::{DType, Device, Tensor};
use common::program::{copy, error, here, json, run, PACK};
use common::{close, data, reference};
use nada::cancel::Cancel;
use nada::error::Kind;
use nada::face::{align, detect, Detector, Face, Framing, Paste, Photo, Quad, FEATHER};
use nada::nn::face::Verdict;
use nada::pack::ModelPack;
use nada::picture::frame::{Canvas, Hard};
use nada::picture::pixels::{Format, Layout, Transfer};
use nada::picture::Picture;
use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

type Tensors = HashMap<String, Tensor>;

/// f32 and f64 of the published code differ by 6.3e-5 pixels; ours sums in another order.
const PIXELS: f64 = 2e-3;
const SCORES: f64 = 1e-5;

fn tensors(file: &Path) -> Tensors {
    candle_core::safetensors::load(file, &Device::Cpu).unwrap()
}

fn rows(t: &Tensor) -> Vec<Vec<f64>> {
    match t.elem_count() {
        0 => Vec::new(),
        _ => t.to_dtype(DType::F64).unwrap().flatten_from(1).unwrap().to_vec2().unwrap(),
    }
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn bytes(t: &Tensor) -> Vec<u8> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn photo(file: &Path) -> Photo {
    Photo::of(&Picture::open(file).unwrap()).unwrap()
}

/// Files of a folder of the reference, by name.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(reference().join(folder)).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Panics unless each row of one has its match in the other: `tolerance` is of the numbers in order.
fn same_rows(name: &str, have: Vec<Vec<f64>>, want: Vec<Vec<f64>>, tolerance: impl Fn(usize) -> f64) {
    assert_eq!(have.len(), want.len(), "{name}: rows");
    let mut left = have;
    for row in want {
        let near = |h: &Vec<f64>| h.len() == row.len() && h.iter().zip(&row).enumerate().all(|(i, (a, b))| (a - b).abs() <= tolerance(i));
        let found = left.iter().position(near);
        left.remove(found.unwrap_or_else(|| panic!("{name}: {row:?} is not there; left are {left:?}")));
    }
}

/// Left, top, right, bottom and score.
fn boxes(found: &[detect::Candidate]) -> Vec<Vec<f64>> {
    found.iter().map(|c| c.sides.iter().chain([&c.score]).map(|v| f64::from(*v)).collect()).collect()
}

fn check_faces(name: &str, faces: &[Face], expected: &Tensors) {
    let (bounds, scores, points) = (rows(&expected["pad.boxes"]), numbers(&expected["pad.scores"]), rows(&expected["pad.points"]));
    assert_eq!(faces.len(), scores.len(), "{name}");
    for (i, face) in faces.iter().enumerate() {
        let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far(&face.bounds, &bounds[i]) <= PIXELS, "{name}: {:?}, not {:?}", face.bounds, bounds[i]);
        assert!(far(face.points.as_flattened(), &points[i]) <= PIXELS, "{name}: {:?}, not {:?}", face.points, points[i]);
        assert!((f64::from(face.score) - scores[i]).abs() <= SCORES, "{name}: {} not {}", face.score, scores[i]);
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn faces_are_found_as_published() {
    let detector = Detector::shipped().unwrap();
    let mut found = 0;
    let all = files("faces/mtcnn_expected", ".safetensors");
    assert_eq!(all.len(), 10);
    for file in all {
        let (name, expected) = (stem(&file), tensors(&file));
        let photo = photo(&reference().join(format!("faces/pictures/{name}.png")));
        let faces = detector.upright(&photo, 20.0, &Cancel::new()).unwrap();
        found += faces.len();
        check_faces(&name, &faces, &expected);
    }
    assert_eq!(found, 9);
}

/// The stages up to the second network are the same in both variants of the published code.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn windows_are_proposed_as_published() {
    let detector = Detector::shipped().unwrap();
    let cancel = Cancel::new();
    for file in files("faces/mtcnn_expected", ".safetensors") {
        let (name, expected) = (stem(&file), tensors(&file));
        let photo = photo(&reference().join(format!("faces/pictures/{name}.png")));
        let scales = detect::scales(&photo, 20.0);
        close(
            &format!("{name}: scales"),
            &Tensor::from_slice(&scales, scales.len(), &Device::Cpu).unwrap(),
            &expected["scales"],
            0.0,
            1e-14,
        );
        for (i, scale) in scales.into_iter().enumerate() {
            let found = detect::proposals(&detector.networks().proposal, &photo, scale, &cancel).unwrap();
            let all = |c: &detect::Candidate| c.sides.iter().chain([&c.score]).chain(&c.offsets).map(|v| f64::from(*v)).collect();
            let found: Vec<Vec<f64>> = found.iter().map(all).collect();
            let want = rows(&expected[&format!("pnet.{i}.boxes")]);
            assert_eq!(found.len(), want.len(), "{name} {i}");
            // In the order of the map; whole numbers are equal.
            for (have, want) in found.iter().zip(&want) {
                assert_eq!(have[..4], want[..4], "{name} {i}");
                assert!(have.iter().zip(want).all(|(a, b)| (a - b).abs() <= SCORES), "{name} {i}: {have:?}, not {want:?}");
            }
        }
        let squares = detect::first_stage(&detector.networks().proposal, &photo, 20.0, &cancel).unwrap();
        same_rows(&name, boxes(&squares), rows(&expected["stage1.boxes"]), |i| if i < 4 { PIXELS } else { SCORES });
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn networks_are_the_published_ones() {
    let detector = Detector::shipped().unwrap();
    let networks = detector.networks();
    let expected = tensors(&reference().join("faces/mtcnn_expected/astronaut_320.safetensors"));
    // Of numbers up to 1; the sums are in another order.
    let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= SCORES;
    let check = |name: &str, verdicts: &[Verdict], prob: Vec<Vec<f64>>, reg: Vec<Vec<f64>>, points: Option<Vec<Vec<f64>>>| {
        for (i, v) in verdicts.iter().enumerate() {
            assert!(near(v.score, prob[i][1]), "{name} {i}: {v:?}, not {:?}", prob[i]);
            assert!(v.offsets.iter().zip(&reg[i]).all(|(a, b)| near(*a, *b)), "{name} {i}: {v:?}, not {:?}", reg[i]);
            let want = points.as_ref().map(|p| p[i].clone()).unwrap_or_default();
            assert!(
                v.points.len() == want.len() && v.points.iter().zip(&want).all(|(a, b)| near(*a, *b)),
                "{name} {i}: {v:?}, not {want:?}"
            );
        }
    };
    for i in 3..9 {
        let map = |what: &str| rows(&expected[&format!("pnet.{i}.{what}")].flatten_from(2).unwrap().squeeze(0).unwrap().t().unwrap());
        let verdicts = networks.proposal.forward(&expected[&format!("pnet.{i}.input")]).unwrap();
        assert_eq!(verdicts.len(), map("prob").len());
        check(&format!("pnet {i}"), &verdicts, map("prob"), map("reg"), None);
    }
    let verdicts = networks.refine.forward(&expected["rnet.input"]).unwrap();
    assert_eq!(verdicts.len(), 16);
    check("rnet", &verdicts, rows(&expected["rnet.prob"]), rows(&expected["rnet.reg"]), None);
    let verdicts = networks.output.forward(&expected["onet.input"]).unwrap();
    assert_eq!(verdicts.len(), 8);
    check("onet", &verdicts, rows(&expected["onet.prob"]), rows(&expected["onet.reg"]), Some(rows(&expected["onet.landmarks"])));
}

fn points(of: &[f64]) -> [[f64; 2]; 5] {
    [0, 1, 2, 3, 4].map(|i| [of[2 * i], of[2 * i + 1]])
}

/// Quad, its side, centre, x and y.
fn all_of(quad: &Quad) -> Vec<f64> {
    [quad.corners.as_flattened(), &[quad.size], &quad.centre, &quad.x, &quad.y].concat()
}

fn check_quads(expected: &Tensors) {
    let (points_of, want) = (rows(&expected["points"]), rows(&expected["quad_qsize_c_x_y"]));
    assert_eq!(points_of.len(), 32);
    for (p, want) in points_of.iter().zip(want) {
        let have = all_of(&Quad::of_points(&points(p)).unwrap());
        // Only the order of sums differs.
        assert!(have.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1.0)), "{have:?}, not {want:?}");
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn quads_are_those_of_ffhq() {
    check_quads(&tensors(&reference().join("faces/align/quads.safetensors")));
}

/// The file's name says the photo, the face, the size and at how many pixels it is sampled.
fn aligned_case(name: &str) -> (String, usize, usize) {
    let mut parts = name.rsplitn(4, '_');
    let mut number = || parts.next().unwrap().parse().unwrap();
    let (sampled, size) = (number(), number());
    let (_face, photo) = (parts.next(), parts.next().unwrap());
    (photo.to_string(), size, sampled)
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn squares_are_those_of_ffhq() {
    let all = files("faces/align", "6.safetensors").into_iter().chain(files("faces/align", "4.safetensors"));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(reference().join("faces/align/report.json")).unwrap()).unwrap();
    let mut cases = 0;
    for file in all {
        let name = stem(&file);
        let (picture, size, sampled) = aligned_case(&name);
        let expected = tensors(&file);
        let photo = photo(&reference().join(format!("faces/pictures/{picture}.png")));
        let quad = Quad::of_points(&points(&numbers(&expected["points"]))).unwrap();
        let have = align(&photo, &quad, size, sampled).unwrap();
        let want = bytes(&expected["aligned"]);
        assert_eq!(have.rgb.len(), want.len());
        let far = have.rgb.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let other = have.rgb.iter().zip(&want).filter(|(a, b)| a != b).count();
        println!("{name}: {other} of {} differ, by {far} at most", want.len());
        // Padding blurs in floats, whose rounding decides a level now and then; else all is whole numbers or doubles.
        let allowed = u8::from(report[&name]["padded"] == true);
        assert!(far <= allowed, "{name}: {far} levels, {other} of {}", want.len());
        cases += 1;
    }
    assert_eq!(cases, 10);
}

fn canvas(rgb: &mut [u8], width: usize, height: usize) -> Canvas<'_> {
    Canvas::new(Cell::from_mut(rgb).as_slice_of_cells(), Layout::packed(width, height, Format::Rgb8, Transfer::Srgb)).unwrap()
}

fn paste(photo: &Photo, quad: &Quad, edit: &Photo, reconstruction: Option<&Photo>) -> Vec<u8> {
    let (mut from, mut to) = (photo.rgb.clone(), photo.rgb.clone());
    let (edit, reconstruction) = (edit.to_picture().unwrap(), reconstruction.map(|r| r.to_picture().unwrap()));
    let paste = Paste { edit: &edit, reconstruction: reconstruction.as_ref(), feather: FEATHER, hard: Hard::default() };
    let (width, height) = (photo.width, photo.height);
    paste.draw(canvas(&mut from, width, height), quad, canvas(&mut to, width, height)).unwrap();
    to
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn faces_are_put_back_as_defined() {
    let all = files("faces/paste", ".safetensors");
    assert_eq!(all.len(), 4);
    for file in all {
        let name = stem(&file);
        let (expected, aligned) = (tensors(&file), tensors(&reference().join(format!("faces/align/{name}.safetensors"))));
        let (picture, size, _) = aligned_case(&name);
        let photo = photo(&reference().join(format!("faces/pictures/{picture}.png")));
        let negative = bytes(&aligned["aligned"]).into_iter().map(|v| 255 - v).collect();
        let edit = Photo::new(size, size, negative).unwrap();
        let quad = Quad::of_points(&points(&numbers(&aligned["points"]))).unwrap();
        let have = paste(&photo, &quad, &edit, None);
        let want = bytes(&expected["own.result"]);
        let far = have.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let other = have.iter().zip(&want).filter(|(a, b)| a != b).count();
        println!("{name}: {other} of {} differ, by {far} at most", want.len());
        // The blend is in floats, the definition in doubles: a half may round to the other side.
        assert!(far <= 1 && other * 1000 <= want.len(), "{name}: {far} levels, {other} of {}", want.len());
    }
}

/// A part of a portrait whose face reaches beyond it on three sides, as the small share of the reference that is always tested has it.
fn tight() -> (Photo, Tensors) {
    (photo(&data("faces/tight.png")), tensors(&data("faces/tight.safetensors")))
}

fn every_fourth_row(rgb: &[u8], width: usize) -> Vec<u8> {
    rgb.chunks(width * 3).step_by(4).flatten().copied().collect()
}

#[test]
fn a_face_is_found_aligned_and_put_back() {
    let (photo, expected) = tight();
    let detector = Detector::shipped().unwrap();
    let squares = detect::first_stage(&detector.networks().proposal, &photo, 20.0, &Cancel::new()).unwrap();
    same_rows("windows", boxes(&squares), rows(&expected["stage1.boxes"]), |i| if i < 4 { PIXELS } else { SCORES });
    check_faces("tight", &detector.upright(&photo, 20.0, &Cancel::new()).unwrap(), &expected);
    check_quads(&tensors(&data("faces/quads.safetensors")));

    let quad = Quad::of_points(&points(&numbers(&expected["points"]))).unwrap();
    let square = align(&photo, &quad, 256, 256).unwrap();
    let far = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    // As of the whole reference: floats decide a level.
    assert!(far(&every_fourth_row(&square.rgb, 256), &bytes(&expected["aligned.every_fourth_row"])) <= 1);
    let edit = Photo::new(256, 256, square.rgb.iter().map(|v| 255 - v).collect()).unwrap();
    let pasted = paste(&photo, &quad, &edit, None);
    assert!(far(&every_fourth_row(&pasted, 120), &bytes(&expected["own.result.every_fourth_row"])) <= 1);
    // A difference of nothing changes nothing; of something it keeps to the frame.
    assert!(paste(&photo, &quad, &square, Some(&square)) == photo.rgb);
    let changed = paste(&photo, &quad, &edit, Some(&square));
    assert!(changed != photo.rgb && changed[161 * 120 * 3..] == photo.rgb[161 * 120 * 3..]);
    assert!(pasted[161 * 120 * 3..] == photo.rgb[161 * 120 * 3..]);
}

/// `a` beside `b`, of one height.
fn beside(a: &Photo, b: &Photo) -> Photo {
    let rows = a.rgb.chunks(a.width * 3).zip(b.rgb.chunks(b.width * 3));
    Photo::new(a.width + b.width, a.height, rows.flat_map(|(a, b)| [a, b].concat()).collect()).unwrap()
}

fn mirrored(photo: &Photo) -> Photo {
    let rgb = photo.rgb.chunks(photo.width * 3).flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>()).collect();
    Photo::new(photo.width, photo.height, rgb).unwrap()
}

/// Turned clockwise by a quarter.
fn lying(photo: &Photo) -> Photo {
    let at = |x: usize, y: usize| (y * photo.width + x) * 3;
    let mut rgb = Vec::new();
    for y in 0..photo.width {
        (0..photo.height).rev().for_each(|x| rgb.extend_from_slice(&photo.rgb[at(y, x)..at(y, x) + 3]));
    }
    Photo::new(photo.height, photo.width, rgb).unwrap()
}

#[test]
fn faces_that_lie_are_found() {
    let (photo, _) = tight();
    let detector = Detector::shipped().unwrap();
    let upright = detector.faces(&photo, None, &Cancel::new()).unwrap();
    assert_eq!(upright.len(), 1);
    let mut turned = photo.clone();
    for quarters in 1..4 {
        turned = lying(&turned);
        let found = detector.faces(&turned, None, &Cancel::new()).unwrap();
        assert_eq!(found.len(), 1, "{quarters}");
        // Where the upright face's points are now.
        let place = |[x, y]: [f64; 2]| match quarters {
            1 => [179.0 - y, x],
            2 => [119.0 - x, 179.0 - y],
            _ => [y, 119.0 - x],
        };
        let want = upright[0].points.map(place);
        let far = |a: &[[f64; 2]; 5], b: &[[f64; 2]; 5]| {
            a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        // The eyes are 46 pixels apart; it is looked at once more at another scale, and the networks are that exact.
        assert!(far(&found[0].points, &want) < 3.0, "{quarters}: {:?}, not {want:?}", found[0].points);
        let roll = found[0].quad().unwrap().roll();
        let off = (roll - upright[0].quad().unwrap().roll() - 90.0 * f64::from(quarters)).rem_euclid(360.0);
        assert!(!(5.0..355.0).contains(&off), "{quarters}: {roll}");
    }
}

/// README-faces 1.4: over ten faces the square is off by up to 8 % in size and 2.6 degrees against the mesh's points, which are off by 5 % between
/// their own two windows. The worst of these leans, and is better when it is looked at upright.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn faces_that_lean_are_looked_at_again() {
    let detector = Detector::shipped().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(reference().join("faces/mesh_points.json")).unwrap()).unwrap();
    for (name, most) in [("astronaut_rot_m30", 0.03), ("hopper_rot_p30", 0.08)] {
        let photo = photo(&reference().join(format!("faces/pictures/{name}.png")));
        let before = detector.upright(&photo, 20.0, &Cancel::new()).unwrap()[0].quad().unwrap();
        let after = detector.faces(&photo, Some(20.0), &Cancel::new()).unwrap()[0].quad().unwrap();
        for (window, faces) in report["pictures"][name].as_object().unwrap() {
            let mesh = faces[0]["eye_left eye_right nose mouth_left mouth_right"].as_array().unwrap();
            let mesh: Vec<f64> = mesh.iter().flat_map(|p| [p[0].as_f64().unwrap(), p[1].as_f64().unwrap()]).collect();
            let mesh = Quad::of_points(&points(&mesh)).unwrap();
            let off = |quad: &Quad| ((quad.size / mesh.size - 1.0).abs(), (quad.roll() - mesh.roll()).abs());
            println!("{name} {window}: {:?} at first, {:?} then", off(&before), off(&after));
            assert!(off(&after).0 < most && off(&after).1 < 2.6, "{name} {window}: {:?}", off(&after));
        }
        assert!(before != after, "{name}");
        if most < 0.08 {
            assert!(before.size / after.size > 1.05, "{name}: {} and {}", before.size, after.size);
        }
    }
}

#[test]
fn what_is_no_face_and_what_does_not_fit() {
    let detector = Detector::shipped().unwrap();
    let find = |photo: &Photo, least| detector.faces(photo, least, &Cancel::new());
    let grey = |w: usize, h: usize| Photo::new(w, h, vec![128; w * h * 3]).unwrap();
    for (w, h) in [(1, 1), (3, 500), (11, 11), (13, 13), (64, 64)] {
        assert_eq!(find(&grey(w, h), None).unwrap(), [], "{w} x {h}");
    }
    for least in [0.0, -1.0, 11.9, f64::NAN, f64::INFINITY] {
        let e = find(&grey(64, 64), Some(least)).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains("12 pixels"), "{e}");
    }
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(detector.faces(&grey(64, 64), None, &cancel).unwrap_err().kind(), Kind::Cancelled);

    let weights = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/mtcnn.safetensors")).unwrap();
    assert!(weights.len() <= 2_000_000);
    let error = |bytes: &[u8]| Detector::from_bytes("some.safetensors".as_ref(), bytes.to_vec()).err().unwrap();
    assert_eq!(error(&weights[..5000]).kind(), Kind::Format);
    let text = String::from_utf8_lossy(&weights[..8000]).into_owned();
    let at = text.find("onet.prelu3.weight").unwrap();
    let mut renamed = weights.clone();
    renamed[at..at + 4].copy_from_slice(b"onex");
    assert!(error(&renamed).to_string().contains("onet.prelu3.weight"));

    let same = [[5.0, 5.0]; 5];
    assert_eq!(Quad::of_points(&same).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(Quad::of_points(&[[f64::NAN, 0.0]; 5]).unwrap_err().kind(), Kind::InvalidArgument);
    let (photo, expected) = tight();
    let quad = Quad::of_points(&points(&numbers(&expected["points"]))).unwrap();
    for (size, sampled) in [(0, 0), (64, 32), (64, 1 << 20)] {
        assert_eq!(align(&photo, &quad, size, sampled).unwrap_err().kind(), Kind::InvalidArgument);
    }
    let away = Quad::of_points(&points(&numbers(&expected["points"])).map(|[x, y]| [x + 900.0, y])).unwrap();
    assert!(align(&photo, &away, 64, 64).unwrap_err().to_string().contains("outside of the photo"));
    let (mut from, mut to) = (photo.rgb.clone(), photo.rgb.clone());
    let (edit, oblong) = (Picture::filled(8, 8, [0.0; 4]).unwrap(), Picture::filled(8, 9, [0.0; 4]).unwrap());
    let good = Paste { edit: &edit, reconstruction: None, feather: FEATHER, hard: Hard::default() };
    let bad = [
        (Paste { edit: &oblong, ..good }, &quad, "edit: 8 x 9"),
        (Paste { reconstruction: Some(&oblong), ..good }, &quad, "reconstruction: 8 x 9"),
        (Paste { feather: 0.0, ..good }, &quad, "feather: 0"),
        (Paste { feather: f64::NAN, ..good }, &quad, "feather: NaN"),
        (good, &away, "outside of the picture"),
    ];
    for (paste, quad, words) in bad {
        let e = paste.draw(canvas(&mut from, 120, 180), quad, canvas(&mut to, 120, 180)).unwrap_err();
        assert!(e.to_string().contains(words), "{e}");
    }
    let e = good.draw(canvas(&mut from, 120, 180), &quad, canvas(&mut to, 180, 120)).unwrap_err();
    assert!(e.to_string().contains("180 x 120"), "{e}");
    assert!(to == photo.rgb);
}

/// [`PACK`] under the name `framed`, with a line more in its model.toml.
fn pack_with(folder: &Path, line: &str) -> String {
    let pack = folder.join("framed");
    copy(Path::new(PACK), &pack);
    let file = pack.join("model.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("resolution = 32", &format!("resolution = 32\n{line}"))).unwrap();
    pack.to_string_lossy().into_owned()
}

#[test]
fn packs_say_how_their_pictures_are_framed() {
    let folder = here();
    let open = |line: &str| {
        let pack = pack_with(folder.path(), line);
        let opened = ModelPack::open(Path::new(&pack));
        std::fs::remove_dir_all(&pack).unwrap();
        opened
    };
    let align = |line: &str| open(line).unwrap().align;
    assert_eq!(align(""), Framing::None);
    assert_eq!(align("align = \"none\""), Framing::None);
    assert_eq!(align("align = \"ffhq\""), Framing::Ffhq);
    let points = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 1.0], [0.65, 0.8]];
    assert_eq!(align("align = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 1], [0.65, 0.8]]"), Framing::Template(points));
    for line in [
        "align = \"celeba\"",
        "align = 3",
        "align = [[0, 0]]",
        "align = [1, 2, 3, 4, 5]",
        "align = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]",
    ] {
        let e = open(line).unwrap_err();
        assert!(e.kind() == Kind::Format && e.to_string().contains("model.toml: align: "), "{line}: {e}");
    }
    // As the program writes it.
    let generator = Path::new(PACK).join("generator.safetensors");
    let add = ["model", "add", "mine", "--generator", &generator.to_string_lossy(), "--folder", ".", "--align", "ffhq"];
    json(folder.path(), &add);
    assert_eq!(ModelPack::open(&folder.path().join("mine")).unwrap().align, Framing::Ffhq);
    assert_eq!(json(folder.path(), &["model", "info", "./mine"])["align"], "ffhq");
}

#[test]
fn the_program_finds_restyles_and_puts_back() {
    let folder = here();
    let place = |name: &str| folder.path().join(name);
    let (one, _) = tight();
    let two = beside(&one, &mirrored(&one));
    two.to_picture().unwrap().save_png(place("two.png").as_path()).unwrap();
    Picture::filled(90, 60, [0.2, 0.4, 0.6, 1.0]).unwrap().save_png(place("none.png").as_path()).unwrap();

    let found = json(folder.path(), &["faces", "two.png", "none.png", "--crop", "squares", "--size", "48"]);
    assert_eq!((found["faces"].as_u64(), found["pictures"][1]["faces"].as_array().map(Vec::len)), (Some(2), Some(0)));
    let faces = found["pictures"][0]["faces"].as_array().unwrap();
    assert!(faces.iter().all(|face| face["score"].as_f64().unwrap() > 0.9 && face["quad"].as_array().unwrap().len() == 4), "{faces:?}");
    let squares = [1, 2].map(|i| Picture::open(&place(&format!("squares/two-face{i}.png"))).unwrap());
    assert!(squares.iter().all(|square| (square.width, square.height) == (48, 48)));
    let text = String::from_utf8(run(folder.path(), &["faces", "two.png"]).stdout).unwrap();
    assert!(text.starts_with("two.png: 2 faces\n  1: score "), "{text}");

    let framed = pack_with(folder.path(), "align = \"ffhq\"");
    json(
        folder.path(),
        &["adapt", "a pencil sketch", "--steps", "1", "--batch", "2", "--no-stop", "--model", &framed, "-o", "d.nada.safetensors"],
    );
    let with = ["--domain", "d.nada.safetensors", "--invert-steps", "2", "--model"];
    let restyle = |more: &[&str]| json(folder.path(), &[&["restyle"], more, &with, &[framed.as_str()]].concat());
    let open = |name: &str| Picture::open(&place(name)).unwrap();
    let before = open("two.png");
    // What changed: the first and the last column, of which there is any.
    let changed = |after: &Picture| {
        assert_eq!((after.width, after.height), (240, 180));
        let columns =
            (0..240).filter(|x| (0..180).any(|y| (0..4).any(|c| before.data[(y * 240 + x) * 4 + c] != after.data[(y * 240 + x) * 4 + c])));
        columns.collect::<Vec<_>>()
    };
    let extent = |i: usize| {
        let xs: Vec<f64> = faces[i]["quad"].as_array().unwrap().iter().map(|c| c[0].as_f64().unwrap() + 0.5).collect();
        (xs.iter().copied().fold(f64::INFINITY, f64::min).floor(), xs.iter().copied().fold(0.0, f64::max).ceil())
    };
    for (paste, number) in [("feather", 1), ("difference", 2)] {
        let value = restyle(&["two.png", "--face", &number.to_string(), "--paste", paste, "-o", "out.png", "--force"]);
        assert_eq!((value["faces"][0]["number"].as_u64(), value["width"].as_u64()), (Some(number as u64), Some(240)));
        let (columns, (left, right)) = (changed(&open("out.png")), extent(number - 1));
        assert!(columns.len() > 40, "{paste}: {} columns", columns.len());
        assert!(columns.iter().all(|x| (left..right).contains(&(*x as f64))), "{paste}: {columns:?}, not in {left} to {right}");
    }
    // The pack says how its pictures are framed: a face is looked for without being asked.
    assert!(changed(&open(restyle(&["two.png", "-o", "largest.png"])["output"].as_str().unwrap())).len() > 40);
    let all = restyle(&["two.png", "--face", "all", "-o", "all.png", "--sheet", "rows.png"]);
    assert_eq!(all["faces"].as_array().unwrap().len(), 2);
    let columns = changed(&open("all.png"));
    assert!(columns.first().unwrap() < &60 && columns.last().unwrap() > &180, "{columns:?}");
    let sheet = open("rows.png");
    assert_eq!((sheet.width, sheet.height), (3 * 32 + 4, 2 * 32 + 2));
    restyle(&["two.png", "--crop", "-o", "square.png"]);
    assert_eq!((open("square.png").width, open("square.png").height), (32, 32));
    // The middle square reaches from the top to the bottom, where it does not fade.
    let value = restyle(&["two.png", "--face", "none", "-o", "middle.png"]);
    assert!(value["faces"][0]["number"].is_null());
    let (columns, after) = (changed(&open("middle.png")), open("middle.png"));
    assert!(columns.first().unwrap() >= &30 && columns.last().unwrap() < &210, "{columns:?}");
    assert_ne!(after.data[120 * 4..120 * 4 + 3], before.data[120 * 4..120 * 4 + 3]);

    let invert = |more: &[&str]| json(folder.path(), &[&["invert", "two.png", "--invert-steps", "1", "--model", &framed], more].concat());
    let latents: Vec<String> =
        invert(&["--face", "all"])["inversions"].as_array().unwrap().iter().map(|i| i["latent"].as_str().unwrap().into()).collect();
    assert_eq!(latents, ["two-face1.latent.safetensors", "two-face2.latent.safetensors"]);
    restyle(&["two.png", "--face", "2", "--latent", &latents[1], "-o", "by-latent.png"]);
    assert!(changed(&open("by-latent.png")).first().unwrap() > &100);

    let fails = |arguments: &[&str], words: &str| {
        let out = run(folder.path(), &[arguments, &["--model", &framed]].concat());
        let text = error(&out);
        assert!(matches!(out.status.code(), Some(1 | 2)) && text.contains(words), "{arguments:?}: {text}");
    };
    let domain = ["--domain", "d.nada.safetensors"];
    fails(&[&["restyle", "none.png"], &domain[..]].concat(), "--face none takes the middle square");
    fails(&[&["restyle", "two.png", "--face", "3"], &domain[..]].concat(), "2 faces found there");
    fails(&[&["restyle", "two.png", "--face", "0"], &domain[..]].concat(), "want largest, all, none");
    fails(&[&["restyle", "two.png", "--face", "all", "--crop"], &domain[..]].concat(), "--crop");
    fails(&[&["restyle", "two.png", "--face", "all", "--latent", "x.npy"], &domain[..]].concat(), "--latent");
    fails(&["invert", "two.png", "--face", "all", "-o", "x.npy"], "one file for 2 faces");
    fails(&["invert", "two.png", "--min-face", "3"], "min_face: 3; want 12 pixels");
    fails(&["invert", "none.png"], "--face none");

    // A pack that says nothing: as ever, and it is told that this is a photo.
    let value = json(folder.path(), &[&["restyle", "two.png", "-o", "plain.png"], &with[..], &[PACK]].concat());
    assert_eq!((open("plain.png").width, value["faces"].as_array().map(Vec::len)), (32, Some(0)));
    let value = json(folder.path(), &[&["restyle", "two.png", "--face", "1", "-o", "asked.png"], &with[..], &[PACK]].concat());
    assert!(value["warnings"][0].as_str().unwrap().contains("does not say how its pictures of faces are framed"), "{value}");
    assert!(changed(&open("asked.png")).len() > 40);
}
