//! The table of a generator's layers. Whoever speaks of layers asks it: phases and selection of adaptation, style offsets, estimates of
//! memory, export, `nada info`, the C ABI.

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the first convolution starts from: the learned constant of StyleGAN2.
    Input,
    /// A modulated convolution with what follows it.
    Convolution,
    /// From features to colours.
    ToRgb,
}

impl Kind {
    /// For the user.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Convolution => "convolution",
            Kind::ToRgb => "to_rgb",
        }
    }
}

/// Features between layers, of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    pub channels: usize,
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
}

impl Plane {
    /// Numbers of one channel.
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    pub fn numbers(&self) -> usize {
        self.channels * self.area()
    }
}

/// A layer of a synthesis network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The keys of its tensors begin with this and a dot, and its style offset in a domain is under it.
    pub name: String,
    pub kind: Kind,
    /// From 0 among the layers of its kind, in the order of drawing.
    pub index: usize,
    /// The row of W+ that its style is made of; None where it has no style.
    pub row: Option<usize>,
    /// What goes in: its channels are the length of the style. Of an input nothing does: 0 channels.
    pub from: Plane,
    /// What comes out; its height and width are the layer's resolution.
    pub to: Plane,
    /// Side of the convolution's kernel; 0 for an input.
    pub kernel: usize,
}

impl Layer {
    /// Length of its style: 0 where it has none.
    pub fn style_channels(&self) -> usize {
        self.row.map_or(0, |_| self.from.channels)
    }

    /// The longer side of what comes out, in pixels.
    pub fn size(&self) -> usize {
        self.to.height.max(self.to.width)
    }

    /// Numbers of its weights and of the affine layer from a w of `style_dim` numbers; biases and strengths of noise are left out.
    pub fn parameters(&self, style_dim: usize) -> usize {
        match self.kind {
            Kind::Input => self.to.numbers(),
            Kind::Convolution | Kind::ToRgb => self.from.channels * (self.kernel * self.kernel * self.to.channels + style_dim),
        }
    }

    /// Whether the tensor `key` of a generator is one of this layer.
    pub fn owns(&self, key: &str) -> bool {
        key.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_layer_before_its_dot() {
        let plane = |channels| Plane { channels, height: 8, width: 4 };
        let layer =
            Layer { name: "convs.1".into(), kind: Kind::Convolution, index: 2, row: Some(2), from: plane(3), to: plane(5), kernel: 3 };
        assert!(layer.owns("convs.1.conv.weight"));
        assert!(!layer.owns("convs.11.conv.weight") && !layer.owns("convs.1") && !layer.owns("to_rgbs.1.bias"));
        assert_eq!((layer.parameters(7), layer.style_channels(), layer.to.numbers()), (3 * (9 * 5 + 7), 3, 5 * 32));
    }
}
