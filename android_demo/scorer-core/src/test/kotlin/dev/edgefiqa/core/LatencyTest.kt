package dev.edgefiqa.core

import org.junit.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNull
import kotlin.test.assertTrue

class LatencyTest {
    private var now = 0L

    private fun measure(
        rules: RunRules,
        durations: Iterator<Long>,
    ) = LatencyRun.measure(rules, { now }) { now += durations.next() }

    private fun always(ns: Long) = generateSequence { ns }.iterator()

    @Test
    fun `the minimum count holds for slow models`() {
        val run = measure(RunRules(3, 5, 10, 1_000_000), always(100))
        assertEquals(3, run.warmUpNs.size)
        assertEquals(5, run.samplesNs.size)
        assertTrue(run.rulesMet)
    }

    @Test
    fun `the minimum duration holds for fast models`() {
        val run = measure(RunRules(0, 5, 1_000, 1_000_000), always(10))
        assertEquals(100, run.samplesNs.size)
        assertTrue(run.rulesMet)
    }

    @Test
    fun `the maximum duration ends a run and says so`() {
        val run = measure(RunRules(2, 50, 0, 1_000), always(100))
        assertEquals(8, run.samplesNs.size)
        assertFalse(run.rulesMet)
    }

    @Test
    fun `samples are kept in order, outliers too`() {
        val durations = listOf(5L, 1L, 900L, 3L)
        val run = measure(RunRules(0, 4, 0, 10_000), durations.iterator())
        assertEquals(durations, run.samplesNs.toList())
    }

    @Test
    fun `percentiles interpolate as numpy does`() {
        val statistics = LatencyStatistics.of(longArrayOf(40, 10, 30, 20, 1_000))
        // What numpy.percentile says of the same samples.
        assertEquals(
            LatencyStatistics(5, 10.0, 1000.0, 220.0, 30.0, 616.0000000000001, 961.5999999999999, 20.0),
            statistics,
        )
        assertEquals(7.0, LatencyStatistics.of(longArrayOf(7))?.p99Ns)
        assertNull(LatencyStatistics.of(LongArray(0)))
    }
}
