//! How the pictures of a generator are framed.

use super::align::Quad;
use super::Face;
use crate::error::{Error, Result};

/// Where a face lies in a generator's pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Framing {
    /// Nowhere in particular, or nobody has said it.
    #[default]
    None,
    /// As in FFHQ, and in what was trained on it or by its script.
    Ffhq,
    /// Left and right eye, nose, left and right corner of the mouth at these places of the square: x, y in shares of its side from the top left.
    Template([[f64; 2]; 5]),
}

impl Framing {
    /// Errors, as what is wrong and what would be right: points that are not finite, far outside of the square, or all in one place.
    pub fn template(points: [[f64; 2]; 5]) -> std::result::Result<Self, String> {
        let near = |v: &f64| v.is_finite() && (-1.0..=2.0).contains(v);
        let [x, y] = middle(&points);
        let spread = points.iter().map(|p| f64::hypot(p[0] - x, p[1] - y)).fold(0.0, f64::max);
        match points.as_flattened().iter().all(near) && spread > 0.01 {
            true => Ok(Framing::Template(points)),
            false => Err(format!("{points:?} is no face in a square: want five points, x and y in shares of its side")),
        }
    }

    /// The square that the generator would show of a face; of a template the one that brings the points nearest to it, by moving, turning and
    /// scaling. None where it shows none in particular.
    ///
    /// Errors: as [`Quad::of_points`].
    pub fn quad(&self, face: &Face) -> Result<Option<Quad>> {
        match self {
            Framing::None => Ok(None),
            Framing::Ffhq => face.quad().map(Some),
            Framing::Template(template) => fitted(template, &face.points).map(Some),
        }
    }
}

fn middle(points: &[[f64; 2]; 5]) -> [f64; 2] {
    [0, 1].map(|i| points.iter().map(|p| p[i]).sum::<f64>() / 5.0)
}

/// Least squares over maps p = m + a (t - n) of complex numbers.
fn fitted(template: &[[f64; 2]; 5], points: &[[f64; 2]; 5]) -> Result<Quad> {
    let (n, m) = (middle(template), middle(points));
    let (mut a, mut norm) = ([0.0; 2], 0.0);
    for (t, p) in template.iter().zip(points) {
        let (t, p) = ([t[0] - n[0], t[1] - n[1]], [p[0] - m[0], p[1] - m[1]]);
        a = [a[0] + p[0] * t[0] + p[1] * t[1], a[1] + p[1] * t[0] - p[0] * t[1]];
        norm += t[0] * t[0] + t[1] * t[1];
    }
    let a = a.map(|v| v / norm);
    let [u, v] = [0.5 - n[0], 0.5 - n[1]];
    let centre = [m[0] + a[0] * u - a[1] * v, m[1] + a[1] * u + a[0] * v];
    let quad = Quad::around(centre, a.map(|v| v / 2.0));
    match quad.corners.as_flattened().iter().all(|v| v.is_finite()) && quad.size > 0.0 {
        true => Ok(quad),
        false => Err(Error::argument("points", format!("{points:?} are no face's eyes, nose and corners of the mouth"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_found_where_it_was_put() {
        let template = [[0.3, 0.4], [0.7, 0.42], [0.5, 0.6], [0.35, 0.8], [0.66, 0.78]];
        let want = Quad::around([120.0, 80.0], [30.0, 12.0]);
        // From the top left corner along the edges.
        let place = |[u, v]: [f64; 2]| [0, 1].map(|i| want.corners[0][i] + 2.0 * (u * want.x[i] + v * want.y[i]));
        let face = Face { bounds: [0.0; 4], score: 1.0, points: template.map(place) };
        let quad = Framing::template(template).unwrap().quad(&face).unwrap().unwrap();
        assert!(quad.corners.as_flattened().iter().zip(want.corners.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-9), "{quad:?}");
        assert!(Framing::template([[0.5, 0.5]; 5]).is_err() && Framing::template([[f64::NAN, 0.0]; 5]).is_err());
        assert!(Framing::None.quad(&face).unwrap().is_none());
        assert_eq!(Framing::Ffhq.quad(&face).unwrap().unwrap(), face.quad().unwrap());
    }
}
