//! Values of numpy.

use super::Writer;
use crate::value::{Dtype, Order};

impl Writer {
    /// Opens a numpy scalar that is a value which Python has as well: that one follows, then
    /// [`end_scalar`](Self::end_scalar).
    pub fn begin_scalar(&mut self, dtype: &Dtype) {
        self.text.push_str("{\"$numpy\":{\"dtype\":");
        self.dtype(dtype);
        self.text.push_str(",\"value\":");
    }

    /// Closes a numpy scalar.
    pub fn end_scalar(&mut self) {
        self.text.push_str("}}");
    }

    /// A numpy scalar as its memory.
    pub fn scalar_data(&mut self, dtype: &Dtype, data: &[u8]) {
        self.text.push_str("{\"$numpy\":{\"dtype\":");
        self.dtype(dtype);
        self.text.push_str(",\"data\":");
        self.base64(data);
        self.text.push_str("}}");
    }

    /// A numpy array.
    pub fn array(&mut self, dtype: &Dtype, shape: &[u64], order: Order, data: &[u8]) {
        self.text.push_str("{\"$ndarray\":{\"dtype\":");
        self.dtype(dtype);
        self.text.push_str(",\"shape\":");
        self.numbers(shape);
        self.text.push_str(",\"order\":\"");
        self.text.push(if order == Order::C { 'C' } else { 'F' });
        self.text.push_str("\",\"data\":");
        self.base64(data);
        self.text.push_str("}}");
    }

    fn numbers(&mut self, numbers: &[u64]) {
        self.text.push('[');
        for number in numbers {
            self.item();
            self.text.push_str(itoa::Buffer::new().format(*number));
        }
        self.text.push(']');
    }

    fn dtype(&mut self, dtype: &Dtype) {
        let fields = match dtype {
            Dtype::Plain(text) => return self.str(text),
            Dtype::Fields(fields) => fields,
        };
        self.text.push('[');
        for field in fields {
            self.item();
            self.text.push('[');
            if let Some(title) = &field.title {
                self.text.push('[');
                self.str(title);
                self.text.push(',');
            }
            self.str(&field.name);
            self.text.push_str(if field.title.is_some() { "]," } else { "," });
            self.dtype(&field.dtype);
            if !field.shape.is_empty() {
                self.text.push(',');
                self.numbers(&field.shape);
            }
            self.text.push(']');
        }
        self.text.push(']');
    }
}
