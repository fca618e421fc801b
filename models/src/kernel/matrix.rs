//! Matrix products over strided slices (the `gemm` crate), in tasks of fixed size.

use rayon::prelude::*;

/// A matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix whose rows are `stride` apart.
    pub(crate) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// A row-major matrix without gaps.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// The same values, rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn skip_rows(self, rows: usize, count: usize) -> Self {
        let values = self.values.get(rows * self.row_stride..).unwrap_or_default();
        Self { values, rows: count, ..self }
    }

    /// One past the last element that the matrix touches.
    fn end(&self) -> usize {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => {
                (rows - 1) * self.row_stride + (columns - 1) * self.column_stride + 1
            }
        }
    }
}

/// `out = scale * a b`, or `out += scale * a b`, on one thread. Rows of `out` are `stride` apart.
///
/// # Panics
///
/// When the shapes do not fit each other or their slices.
pub(crate) fn multiply(
    out: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    accumulate: bool,
) {
    // SAFETY: `out` is initialised, so it may be read.
    unsafe { product(out.as_mut_ptr(), out.len(), stride, a, b, scale, accumulate) }
}

/// `out += scale * a b` where `accumulate`, else `out = scale * a b` without reading `out`.
///
/// # Safety
///
/// `out` is valid for writes of `length` values that nothing else borrows, and for reads where
/// `accumulate`.
unsafe fn product(
    out: *mut f32,
    length: usize,
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    accumulate: bool,
) {
    let written = Matrix {
        values: &[],
        rows: a.rows,
        columns: b.columns,
        row_stride: stride,
        column_stride: 1,
    };
    assert!(
        a.columns == b.rows,
        "product of {}x{} and {}x{}",
        a.rows,
        a.columns,
        b.rows,
        b.columns
    );
    assert!(stride >= b.columns, "rows of the product overlap");
    assert!(written.end() <= length, "the product does not fit its slice");
    assert!(a.end() <= a.values.len() && b.end() <= b.values.len(), "a matrix ends early");
    // SAFETY: the assertions above keep every access in its slice; the rest the caller promises.
    // Strides are sizes of slices and fit isize.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            stride as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// How many rows one task takes: about four tasks whatever the machine, so that results do not
/// depend on it.
pub(crate) fn rows_of_task(rows: usize) -> usize {
    rows.div_ceil(4).next_multiple_of(16)
}

/// `a b`, row-major without gaps, in parallel over rows.
///
/// # Panics
///
/// When the shapes do not fit each other or their slices.
pub(crate) fn multiply_in_parallel(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let length = a.rows * b.columns;
    if length == 0 || a.columns == 0 {
        return vec![0.0; length];
    }
    // Not zeroed first: that alone would be a tenth of a training step.
    let mut out = Vec::with_capacity(length);
    let step = rows_of_task(a.rows).max(1);
    let room = out.spare_capacity_mut().get_mut(..length).unwrap_or_default();
    room.par_chunks_mut(step * b.columns).enumerate().for_each(|(task, room)| {
        let part = a.skip_rows(task * step, room.len() / b.columns);
        // SAFETY: `room` is exclusively ours, and not read.
        unsafe {
            product(room.as_mut_ptr().cast(), room.len(), b.columns, part, b, 1.0, false);
        }
    });
    // SAFETY: the chunks are whole rows that cover all of it, and each was written whole.
    unsafe { out.set_len(length) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposed_and_strided_matrices() {
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect(); // 3 x 4
        let b: Vec<f32> = (0..20).map(|i| (i as f32) - 7.0).collect(); // 4 rows, 5 apart
        let expected =
            |i: usize, j: usize| (0..4).map(|k| a[i * 4 + k] * b[k * 5 + j]).sum::<f32>();
        let product = multiply_in_parallel(Matrix::new(&a, 3, 4), Matrix::strided(&b, 4, 3, 5));
        for i in 0..3 {
            for j in 0..3 {
                assert_eq!(product[i * 3 + j], expected(i, j));
            }
        }
        let mut twice = vec![1.0; 9];
        let turned = Matrix::strided(&b, 4, 3, 5).transposed();
        multiply(&mut twice, 3, turned, Matrix::new(&a, 3, 4).transposed(), 2.0, true);
        assert_eq!(twice[1], 1.0 + 2.0 * expected(1, 0));
    }

    #[test]
    fn one_and_two_threads_return_the_same_bits() {
        let a: Vec<f32> = (0..300 * 70).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..70 * 90).map(|i| (i as f32 * 0.11).cos()).collect();
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| multiply_in_parallel(Matrix::new(&a, 300, 70), Matrix::new(&b, 70, 90)))
        };
        assert_eq!(product(1), product(2));
    }
}
