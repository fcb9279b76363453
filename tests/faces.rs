//! Faces: found, aligned and put back as the published code does it.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{close, reference};
use nada::cancel::Cancel;
use nada::face::{align, detect, Detector, Face, Paste, Photo, Quad, FEATHER};
use nada::nn::face::Verdict;
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
