//! Values of numpy.

use super::{Reader, needed};
use crate::build::Build;
use crate::error::{Error, unfit};
use crate::value::{Content, Dtype, Field, Order};

impl<B: Build> Reader<'_, '_, B> {
    pub(super) fn numpy(&mut self) -> Result<B::Out, Error> {
        let (mut dtype, mut value, mut data) = (None, None, None);
        self.members(["dtype", "value", "data"], |reader, member| {
            match member {
                0 => dtype = Some(reader.dtype()?),
                1 => value = Some(reader.value()?),
                _ => data = Some(reader.base64()?),
            }
            Ok(())
        })?;
        let content = match (value, data) {
            (Some(value), None) => Content::Value(value),
            (None, Some(data)) => Content::Data(data),
            _ => return Err(unfit("one of 'value' and 'data' is needed").into()),
        };
        Ok(self.build.scalar(needed(dtype, "dtype")?, content)?)
    }

    pub(super) fn array(&mut self) -> Result<B::Out, Error> {
        let (mut dtype, mut shape, mut order, mut data) = (None, None, Order::C, None);
        self.members(["dtype", "shape", "order", "data"], |reader, member| {
            match member {
                0 => dtype = Some(reader.dtype()?),
                1 => shape = Some(reader.lengths()?),
                2 => {
                    order = match &*reader.scan.string()? {
                        "C" => Order::C,
                        "F" => Order::Fortran,
                        other => return Err(unfit(format!("'{other}' is no order; write C or F")).into()),
                    }
                }
                _ => data = Some(reader.base64()?),
            }
            Ok(())
        })?;
        let (dtype, shape) = (needed(dtype, "dtype")?, needed(shape, "shape")?);
        Ok(self.build.array(dtype, shape, order, needed(data, "data")?)?)
    }

    pub(super) fn dtype(&mut self) -> Result<Dtype, Error> {
        if self.scan.peek() == Some(b'"') {
            return Ok(Dtype::Plain(self.scan.string()?.into_owned()));
        }
        self.deeper(|reader| {
            let mut fields = Vec::new();
            reader.list(|reader| {
                fields.push(reader.field()?);
                Ok(())
            })?;
            Ok(Dtype::Fields(fields))
        })
    }

    /// `["name","<f8"]`, `["name","<f8",[2,3]]`, `[["title","name"],"<f8"]`
    pub(super) fn field(&mut self) -> Result<Field, Error> {
        self.scan.expect(b'[', "a field [name,dtype]")?;
        let (title, name) = if self.scan.take(b'[') {
            let title = self.scan.string()?.into_owned();
            self.scan.expect(b',', "the name after the title")?;
            let name = self.scan.string()?.into_owned();
            self.scan.expect(b']', "the end of the names")?;
            (Some(title), name)
        } else {
            (None, self.scan.string()?.into_owned())
        };
        self.scan.expect(b',', "the type of the field")?;
        let dtype = self.dtype()?;
        let shape = if self.scan.take(b',') { self.lengths()? } else { Vec::new() };
        self.scan.expect(b']', "the end of the field")?;
        Ok(Field { title, name, dtype, shape })
    }

    pub(super) fn lengths(&mut self) -> Result<Vec<u64>, Error> {
        let mut lengths = Vec::new();
        self.list(|reader| {
            lengths.push(reader.length()?);
            Ok(())
        })?;
        Ok(lengths)
    }
}
