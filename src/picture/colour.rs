//! What the numbers of a picture's file mean, and their way to sRGB.

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace, Layout, MatrixCoefficients, ProfileClass,
    ProfileText, RenderingIntent, ToneReprCurve, TransferCharacteristics, TransformF32Executor, TransformOptions, XyY,
};
use std::sync::Arc;

/// What a file says of its numbers.
pub(super) enum Stated {
    /// Nothing, or that they are sRGB.
    Srgb,
    /// A profile of the International Color Consortium.
    Icc(Vec<u8>),
    /// PNG's cICP: colour primaries, transfer function, matrix and range, by the numbers of ITU-T H.273.
    Cicp { primaries: u8, transfer: u8, matrix: u8, full_range: bool },
    /// PNG's gAMA and cHRM (x and y of white, red, green and blue), in 1/100000.
    Gamma { gamma: Option<u32>, chromaticities: Option<[u32; 8]> },
    /// DCF's option file, Adobe RGB (1998), which cameras tell by two tags of Exif.
    AdobeRgb,
}

/// The way from a file's numbers to sRGB.
pub(super) struct Colours {
    /// None where the numbers are sRGB.
    transform: Option<(Arc<TransformF32Executor>, Channels)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Channels {
    Grey,
    Rgb,
}

/// Half of an 8-bit step: profiles that change no colour by more are sRGB.
const SAME: f32 = 0.5 / 255.0;

impl Colours {
    /// By the first of `stated` that can be used, for a picture in grey or in colours. `warn` gets a sentence for each that cannot; where
    /// none can, the numbers are taken as sRGB.
    pub fn new(stated: Vec<Stated>, grey: bool, mut warn: impl FnMut(String)) -> Self {
        let mut stated = stated.into_iter().peekable();
        while let Some(one) = stated.next() {
            let made = match one {
                Stated::Srgb => Ok(None),
                Stated::Icc(bytes) => icc(&bytes, grey),
                Stated::Cicp { primaries, transfer, matrix, full_range } => cicp(primaries, transfer, matrix, full_range),
                Stated::Gamma { gamma, chromaticities } => by_gamma(gamma, chromaticities),
                Stated::AdobeRgb => transform(&ColorProfile::new_adobe_rgb()).map_err(|e| format!("Adobe RGB ({e})")),
            };
            match made {
                Ok(transform) => return Self { transform },
                Err(what) if stated.peek().is_some() => warn(format!("{what} cannot be used; what the file says beside it counts")),
                Err(what) => warn(format!("{what} cannot be used, so its numbers are taken as sRGB")),
            }
        }
        Self { transform: None }
    }

    /// Turns a row (R, G, B, A of each pixel in [0, 1]) into sRGB.
    pub fn convert(&self, row: &mut [f32]) {
        let Some((transform, channels)) = &self.transform else { return };
        let pixels = row.len() / 4;
        let mut from = Vec::with_capacity(pixels * 3);
        for p in row.chunks_exact(4) {
            from.extend_from_slice(if *channels == Channels::Grey { &p[..1] } else { &p[..3] });
        }
        let mut to = vec![0.0; pixels * 3];
        // It fails where the lengths do not fit together only, which they do.
        if transform.transform(&from, &mut to).is_err() {
            return;
        }
        for (p, rgb) in row.chunks_exact_mut(4).zip(to.chunks_exact(3)) {
            // Colours that sRGB does not have lie outside of it.
            p[..3].iter_mut().zip(rgb).for_each(|(o, v)| *o = if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) });
        }
    }
}

/// The name that a profile gives itself.
fn name(profile: &ColorProfile) -> String {
    let text = match &profile.description {
        Some(ProfileText::PlainString(text)) => text.clone(),
        Some(ProfileText::Localizable(texts)) => texts.first().map(|t| t.value.clone()).unwrap_or_default(),
        Some(ProfileText::Description(d)) if d.unicode_string.is_empty() => d.ascii_string.clone(),
        Some(ProfileText::Description(d)) => d.unicode_string.clone(),
        None => String::new(),
    };
    let text = text.trim_end_matches('\0').trim().to_string();
    if text.is_empty() {
        "without a name".into()
    } else {
        format!("'{text}'")
    }
}

/// What a profile of `bytes` calls itself, for messages.
pub(super) fn icc_name(bytes: &[u8]) -> String {
    match ColorProfile::new_from_slice(bytes) {
        Ok(profile) => name(&profile),
        Err(_) => "that cannot be read".into(),
    }
}

type Transform = Option<(Arc<TransformF32Executor>, Channels)>;

fn icc(bytes: &[u8], grey: bool) -> Result<Transform, String> {
    let profile = ColorProfile::new_from_slice(bytes).map_err(|e| format!("its ICC profile of {} bytes ({e})", bytes.len()))?;
    let refused = |why: String| format!("its ICC profile {} ({why})", name(&profile));
    match profile.profile_class {
        ProfileClass::InputDevice | ProfileClass::DisplayDevice | ProfileClass::OutputDevice | ProfileClass::ColorSpace => {}
        class => return Err(refused(format!("a profile of the class {class:?}"))),
    }
    match profile.color_space {
        DataColorSpace::Rgb => {}
        DataColorSpace::Gray if grey => {}
        space => return Err(refused(format!("for {space:?} colours, which the picture's are not"))),
    }
    if let Some(cicp) = profile.cicp {
        if let TransferCharacteristics::Smpte2084 | TransferCharacteristics::Hlg = cicp.transfer_characteristics {
            return Err(refused("for high dynamic range".into()));
        }
    }
    transform(&profile).map_err(refused)
}

fn cicp(primaries: u8, transfer: u8, matrix: u8, full_range: bool) -> Result<Transform, String> {
    let refused = |why: &str| format!("its cICP chunk (primaries {primaries}, transfer {transfer}, matrix {matrix}; {why})");
    if matrix != 0 {
        return Err(refused("PNG has the matrix 0 only"));
    }
    if !full_range {
        return Err(refused("of limited range"));
    }
    let curve = match transfer {
        // Curves of television, powers, linear and sRGB.
        1 | 4 | 5 | 6 | 8 | 13 | 14 | 15 => TransferCharacteristics::try_from(transfer),
        16 | 18 => return Err(refused("high dynamic range")),
        _ => return Err(refused("a transfer function that is not known here")),
    };
    let (Ok(color_primaries), Ok(transfer_characteristics)) = (CicpColorPrimaries::try_from(primaries), curve) else {
        return Err(refused("numbers that are not known here"));
    };
    let profile = ColorProfile::new_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range,
    });
    if !profile.is_matrix_shaper() {
        return Err(refused("primaries that are not known here"));
    }
    transform(&profile).map_err(|why| refused(&why))
}

fn by_gamma(gamma: Option<u32>, chromaticities: Option<[u32; 8]>) -> Result<Transform, String> {
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    if let Some(numbers) = chromaticities {
        let [wx, wy, rx, ry, gx, gy, bx, by] = numbers.map(|v| f64::from(v) / 100_000.0);
        let at = |x: f64, y: f64| Chromaticity { x: x as f32, y: y as f32 };
        let refused = || format!("its cHRM chunk ({numbers:?})");
        if [wy, ry, gy, by].iter().any(|y| *y <= 0.0) {
            return Err(refused());
        }
        profile
            .update_rgb_colorimetry(XyY { x: wx, y: wy, yb: 1.0 }, ColorPrimaries { red: at(rx, ry), green: at(gx, gy), blue: at(bx, by) });
        if !profile.profile_volume().is_some_and(|v| v.is_finite() && v.abs() > 1e-6) {
            return Err(refused());
        }
    }
    if let Some(gamma) = gamma {
        let exponent = 100_000.0 / gamma as f32;
        if !(0.1..=10.0).contains(&exponent) {
            return Err(format!("its gAMA chunk ({gamma})"));
        }
        // Programs write 45455 and mean sRGB's curve, of which it is the nearest power; libpng takes gammas as near as this for the same.
        if (exponent / 2.2 - 1.0).abs() >= 0.05 {
            let curve = Some(ToneReprCurve::Parametric(vec![exponent]));
            (profile.red_trc, profile.green_trc, profile.blue_trc) = (curve.clone(), curve.clone(), curve);
        }
    }
    transform(&profile).map_err(|e| format!("its gAMA and cHRM chunks ({e})"))
}

/// From `profile`, which is one of grey or RGB colours; None where its numbers are sRGB's.
fn transform(profile: &ColorProfile) -> Result<Transform, String> {
    let channels = if profile.color_space == DataColorSpace::Gray { Channels::Grey } else { Channels::Rgb };
    // Viewers show pictures perceptually; a profile of tables need not have that one.
    let rendering_intent = match profile {
        p if p.lut_a_to_b_perceptual.is_some() => RenderingIntent::Perceptual,
        p if p.lut_a_to_b_colorimetric.is_some() => RenderingIntent::RelativeColorimetric,
        p if p.lut_a_to_b_saturation.is_some() => RenderingIntent::Saturation,
        _ => RenderingIntent::Perceptual,
    };
    let options = TransformOptions { rendering_intent, allow_use_cicp_transfer: false, prefer_fixed_point: false, ..Default::default() };
    let layout = if channels == Channels::Grey { Layout::Gray } else { Layout::Rgb };
    let made = profile.create_transform_f32(layout, &ColorProfile::new_srgb(), Layout::Rgb, options).map_err(|e| e.to_string())?;

    let steps: Vec<f32> = (0..=8).map(|i| i as f32 / 8.0).collect();
    let greys = (0..256).map(|v| [v as f32 / 255.0; 3]);
    let cube = steps.iter().flat_map(|r| steps.iter().flat_map(|g| steps.iter().map(|b| [*r, *g, *b])));
    let probes: Vec<[f32; 3]> = if channels == Channels::Grey { greys.collect() } else { greys.chain(cube).collect() };
    let before: Vec<f32> = match channels {
        Channels::Grey => probes.iter().map(|p| p[0]).collect(),
        Channels::Rgb => probes.concat(),
    };
    let mut after = vec![0.0; probes.len() * 3];
    made.transform(&before, &mut after).map_err(|e| e.to_string())?;
    if !after.iter().all(|v| v.is_finite()) {
        return Err("which gives numbers that are not finite".into());
    }
    let changes = probes.iter().flatten().zip(&after).any(|(a, b)| (a - b.clamp(0.0, 1.0)).abs() > SAME);
    Ok(changes.then_some((made, channels)))
}
