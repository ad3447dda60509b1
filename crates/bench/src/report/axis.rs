//! The axes of a chart: where a value lies, and which values get a line.

/// How an axis maps values to room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps, from zero.
    Linear,
    /// Equal factors; values that are not above zero are left out.
    Log,
    /// Percentiles (0 to 100): 90, 99, 99.9 … are equally far apart.
    Percentile,
}

/// Lines of a linear axis, at most.
const LINES_MAX: f64 = 6.0;
/// Least share of what is left beyond a percentile: beyond 99.99999 nothing is told apart.
const REST_MIN: f64 = 1e-7;

/// A scale with its two ends, in the scale's own measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that has room for all of `values`.
    pub(super) fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let places = values.filter_map(|value| place(scale, value));
        let (mut low, mut high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| {
            (l.min(p), h.max(p))
        });
        if !low.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        match scale {
            Scale::Linear => {
                low = low.min(0.0);
                high = if high > low { high } else { low + 1.0 };
                let step = step(high - low);
                (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
            }
            // Whole decades where the values span some, else a little room on both sides.
            Scale::Log if high - low >= 1.0 => (low, high) = (low.floor(), high.ceil()),
            Scale::Log => (low, high) = (low - 0.15, high + 0.15),
            Scale::Percentile => (low, high) = (0.0, high.max(1.0)),
        }
        Self { scale, low, high }
    }

    /// Where `value` lies: 0 at the low end, 1 at the high end; `None` off the axis.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        // A percentile of 100 has no place of its own: it stands at the end.
        let place = place(self.scale, value)
            .or_else(|| (self.scale == Scale::Percentile && value >= 100.0).then_some(self.high))?;
        Some(((place - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }

    /// The values that get a line and a label, rising.
    pub(super) fn lines(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high - self.low);
                let first = (self.low / step).ceil();
                (0..=64)
                    .map(|number| (first + f64::from(number)) * step)
                    .take_while(|value| *value <= self.high + step * 1e-6)
                    .collect()
            }
            Scale::Log => {
                let is_wide = self.high - self.low > 2.5;
                let factors: &[f64] = if is_wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
                self.decades(factors)
            }
            Scale::Percentile => {
                let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
                let is_on = |p: &f64| place(Scale::Percentile, *p).is_some_and(|p| p <= self.high);
                all.into_iter().filter(is_on).collect()
            }
        }
    }

    fn decades(&self, factors: &[f64]) -> Vec<f64> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "exponents of figures are small"
        )]
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let room = 1e-9;
        let on_axis = |value: &f64| {
            let place = value.log10();
            place >= self.low - room && place <= self.high + room
        };
        let values = (first..=last).flat_map(|exponent| {
            factors
                .iter()
                .map(move |factor| factor * 10_f64.powi(exponent))
        });
        values.filter(on_axis).collect()
    }
}

/// A value in the measure of its scale; `None` where it has no place.
fn place(scale: Scale, value: f64) -> Option<f64> {
    let place = match scale {
        Scale::Linear => value,
        Scale::Log if value > 0.0 => value.log10(),
        Scale::Percentile if value < 100.0 => -(1.0 - value / 100.0).max(REST_MIN).log10(),
        Scale::Log | Scale::Percentile => return None,
    };
    place.is_finite().then_some(place)
}

/// A step of 1, 2 or 5 times a power of ten that divides `room` into at most [`LINES_MAX`] parts.
fn step(room: f64) -> f64 {
    let least = room / LINES_MAX;
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fit = factors
        .into_iter()
        .find(|factor| factor * power >= least * (1.0 - 1e-9));
    fit.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, values: &[f64]) -> Axis {
        Axis::over(scale, values.iter().copied())
    }

    fn text(values: &[f64]) -> String {
        let texts: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        texts
            .iter()
            .map(|t| t.trim_end_matches('0').trim_end_matches('.'))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_steps_by_1_2_or_5() {
        let axis = axis(Scale::Linear, &[3.0, 47.0]);
        assert_eq!(text(&axis.lines()), "0 10 20 30 40 50");
        assert_eq!(axis.share(25.0), Some(0.5));
    }

    #[test]
    fn a_logarithmic_axis_has_decades_and_no_place_for_zero() {
        let axis = axis(Scale::Log, &[0.0, 1000.0, 1_000_000.0]);
        assert_eq!(text(&axis.lines()), "1000 10000 100000 1000000");
        assert_eq!(axis.share(0.0), None);
        assert_eq!(axis.share(1000.0), Some(0.0));
    }

    #[test]
    fn each_nine_of_a_percentile_gets_the_same_room() {
        let axis = axis(Scale::Percentile, &[0.0, 90.0, 99.0, 100.0]);
        assert_eq!(text(&axis.lines()), "0 50 90 99");
        let share = axis.share(90.0).unwrap();
        assert!((share - 0.5).abs() < 1e-9);
        assert_eq!(axis.share(100.0), Some(1.0));
    }

    #[test]
    fn no_values_and_equal_values_still_make_an_axis() {
        assert_eq!(
            text(&axis(Scale::Linear, &[]).lines()),
            "0 0.2 0.4 0.6 0.8 1"
        );
        assert!(axis(Scale::Linear, &[0.0]).lines().len() > 2);
        let log = axis(Scale::Log, &[100.0, 100.0]);
        assert!((log.share(100.0).unwrap() - 0.5).abs() < 1e-9);
        assert!(!log.lines().is_empty());
    }
}
