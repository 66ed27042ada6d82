package dev.edgefiqa.core

/**
 * How often an inference is measured, in the spirit of MLPerf Mobile: a warm-up that does not
 * count, then a minimum count and a minimum duration, both of which must be reached.
 *
 * @property warmUpCount inferences before the measured ones
 * @property minimumCount at least this many samples
 * @property minimumDurationNs at least this long, in nanoseconds
 * @property maximumDurationNs stop here even if the minima are not reached, in nanoseconds
 */
data class RunRules(
    val warmUpCount: Int,
    val minimumCount: Int,
    val minimumDurationNs: Long,
    val maximumDurationNs: Long,
)

/**
 * The samples of one run, none left out.
 *
 * @property warmUpNs durations of the warm-up inferences, in nanoseconds
 * @property samplesNs durations of the measured inferences, in the order they happened
 * @property rulesMet whether minimum count and minimum duration were reached
 */
class LatencyRun(
    val warmUpNs: LongArray,
    val samplesNs: LongArray,
    val rulesMet: Boolean,
) {
    companion object {
        /**
         * Measures [action] by the [rules].
         *
         * @param clock monotonic time in nanoseconds
         */
        fun measure(
            rules: RunRules,
            clock: () -> Long,
            action: () -> Unit,
        ): LatencyRun {
            val begin = clock()
            val warmUp = ArrayList<Long>()
            while (warmUp.size < rules.warmUpCount && clock() - begin < rules.maximumDurationNs) {
                warmUp += timed(clock, action)
            }
            val samples = ArrayList<Long>()
            val measuredFrom = clock()
            var elapsed = 0L
            while (samples.size < rules.minimumCount || elapsed < rules.minimumDurationNs) {
                if (clock() - begin >= rules.maximumDurationNs) break
                samples += timed(clock, action)
                elapsed = clock() - measuredFrom
            }
            val met = samples.size >= rules.minimumCount && elapsed >= rules.minimumDurationNs
            return LatencyRun(warmUp.toLongArray(), samples.toLongArray(), met)
        }
    }
}

/** Returns how long [action] took by [clock], in nanoseconds. */
inline fun timed(
    clock: () -> Long,
    action: () -> Unit,
): Long {
    val begin = clock()
    action()
    return clock() - begin
}

/**
 * Summary of all samples; every duration is in nanoseconds.
 *
 * @property count number of samples
 * @property iqrNs 75th minus 25th percentile
 */
data class LatencyStatistics(
    val count: Int,
    val minNs: Double,
    val maxNs: Double,
    val meanNs: Double,
    val p50Ns: Double,
    val p90Ns: Double,
    val p99Ns: Double,
    val iqrNs: Double,
) {
    companion object {
        /** Summarises samples; null if there is none. */
        fun of(samplesNs: LongArray): LatencyStatistics? {
            if (samplesNs.isEmpty()) return null
            val sorted = samplesNs.sortedArray()
            return LatencyStatistics(
                count = sorted.size,
                minNs = sorted.first().toDouble(),
                maxNs = sorted.last().toDouble(),
                meanNs = sorted.sumOf { it.toDouble() } / sorted.size,
                p50Ns = percentile(sorted, 0.50),
                p90Ns = percentile(sorted, 0.90),
                p99Ns = percentile(sorted, 0.99),
                iqrNs = percentile(sorted, 0.75) - percentile(sorted, 0.25),
            )
        }

        /**
         * Linear interpolation between the closest ranks, numpy's default.
         *
         * @param sorted samples in ascending order, at least one
         * @param share 0..1
         */
        fun percentile(
            sorted: LongArray,
            share: Double,
        ): Double {
            val position = share * (sorted.size - 1)
            val below = position.toInt()
            val above = minOf(below + 1, sorted.size - 1)
            val fraction = position - below
            val gap = (sorted[above] - sorted[below]).toDouble()
            // From the nearer end, as numpy does, so that both sides round alike.
            return if (fraction < 0.5) sorted[below] + gap * fraction else sorted[above] - gap * (1 - fraction)
        }
    }
}
