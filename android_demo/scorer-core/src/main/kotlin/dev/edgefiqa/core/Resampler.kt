package dev.edgefiqa.core

import kotlin.math.abs
import kotlin.math.ceil

/**
 * Pillow's antialiased bilinear resampling of 8-bit channels, bit for bit.
 *
 * The triangle filter is stretched by the scale when shrinking, its weights are rounded to 22-bit
 * fixed point, and the picture is filtered along one axis and then along the other, with the
 * intermediate rounded to 8 bits. Only the pixels inside a window of the result are computed: each
 * depends on nothing but its own weights, so the window's bytes are those of the whole picture.
 */
object Resampler {
    private const val PRECISION_BITS = 22
    private const val HALF = 1 shl (PRECISION_BITS - 1)
    private const val FILTER_SUPPORT = 1.0

    /**
     * Resizes [source] to [width] by [height] and returns the window that starts at ([left], [top]).
     *
     * @param width width of the whole result in pixels
     * @param height height of the whole result in pixels
     * @param windowWidth width of the window in pixels
     * @param windowHeight height of the window in pixels
     */
    fun resizeWindow(
        source: PixelRows,
        width: Int,
        height: Int,
        left: Int = 0,
        top: Int = 0,
        windowWidth: Int = width,
        windowHeight: Int = height,
    ): RgbImage {
        require(left >= 0 && top >= 0 && left + windowWidth <= width && top + windowHeight <= height)
        val across = Weights(source.width, width, left, windowWidth)
        val down = Weights(source.height, height, top, windowHeight)
        val pixels =
            if (isDownFirst(source, width, height)) {
                resizeDownFirst(source, across, down)
            } else {
                resizeAcrossFirst(source, across, down)
            }
        return RgbImage(windowWidth, windowHeight, pixels)
    }

    /**
     * Whether columns are filtered before rows, which changes the rounding of the intermediate.
     *
     * Pillow does so from version 13 on where the height loses more than twice as many pixels as
     * the width does; older versions always begin with the rows.
     */
    private fun isDownFirst(
        source: PixelRows,
        width: Int,
        height: Int,
    ): Boolean = height < source.height && source.height - height > 2L * (source.width - width)

    private fun resizeAcrossFirst(
        source: PixelRows,
        across: Weights,
        down: Weights,
    ): ByteArray {
        val stride = 3 * across.size
        val between = ByteArray((down.end - down.begin) * stride)
        val row = ByteArray(3 * source.width)
        for (y in down.begin until down.end) {
            source.readRow(y, row)
            filterAcross(row, across, between, (y - down.begin) * stride)
        }
        val result = ByteArray(down.size * stride)
        for (y in 0 until down.size) filterDown(between, down, y, stride, result)
        return result
    }

    /** Reads each row once and adds it to the few results that it contributes to. */
    private fun resizeDownFirst(
        source: PixelRows,
        across: Weights,
        down: Weights,
    ): ByteArray {
        val stride = 3 * source.width
        val result = ByteArray(3 * across.size * down.size)
        val row = ByteArray(stride)
        val sums = ArrayDeque<IntArray>()
        var oldest = 0
        for (y in down.begin until down.end) {
            source.readRow(y, row)
            while (oldest + sums.size < down.size && down.first[oldest + sums.size] <= y) {
                sums.addLast(IntArray(stride) { HALF })
            }
            sums.forEachIndexed { index, sum -> addRow(row, down.factorAt(oldest + index, y), sum) }
            while (sums.isNotEmpty() && down.first[oldest] + down.count[oldest] == y + 1) {
                val line = sums.removeFirst()
                val bytes = ByteArray(stride) { clip(line[it]) }
                filterAcross(bytes, across, result, 3 * across.size * oldest++)
            }
        }
        return result
    }

    private fun addRow(
        row: ByteArray,
        factor: Int,
        sum: IntArray,
    ) {
        if (factor == 0) return
        for (x in row.indices) sum[x] += (row[x].toInt() and 0xFF) * factor
    }

    private fun filterAcross(
        row: ByteArray,
        weights: Weights,
        into: ByteArray,
        offset: Int,
    ) {
        val factors = weights.factors
        var to = offset
        for (x in weights.first.indices) {
            var from = 3 * weights.first[x]
            val begin = x * weights.stride
            var red = HALF
            var green = HALF
            var blue = HALF
            for (k in begin until begin + weights.count[x]) {
                val factor = factors[k]
                red += (row[from].toInt() and 0xFF) * factor
                green += (row[from + 1].toInt() and 0xFF) * factor
                blue += (row[from + 2].toInt() and 0xFF) * factor
                from += 3
            }
            into[to++] = clip(red)
            into[to++] = clip(green)
            into[to++] = clip(blue)
        }
    }

    private fun filterDown(
        between: ByteArray,
        weights: Weights,
        y: Int,
        stride: Int,
        into: ByteArray,
    ) {
        val sums = IntArray(stride) { HALF }
        var from = (weights.first[y] - weights.begin) * stride
        val begin = y * weights.stride
        for (k in begin until begin + weights.count[y]) {
            val factor = weights.factors[k]
            for (x in 0 until stride) sums[x] += (between[from + x].toInt() and 0xFF) * factor
            from += stride
        }
        for (x in 0 until stride) into[y * stride + x] = clip(sums[x])
    }

    private fun clip(sum: Int): Byte = (sum shr PRECISION_BITS).coerceIn(0, 255).toByte()

    /**
     * Fixed-point weights of [size] results of a line, from the result at index `from` on.
     *
     * @param input length of the line that is read
     * @param output length of the whole line that is made
     */
    private class Weights(
        input: Int,
        output: Int,
        from: Int,
        val size: Int,
    ) {
        private val scale = input.toDouble() / output
        private val filterScale = maxOf(scale, 1.0)
        private val support = FILTER_SUPPORT * filterScale
        val stride = ceil(support).toInt() * 2 + 1
        val first = IntArray(size)
        val count = IntArray(size)
        val factors = IntArray(size * stride)

        init {
            if (input == output) {
                fillIdentity(from)
            } else {
                val line = DoubleArray(stride)
                for (index in 0 until size) fill(index, from + index, input, line)
            }
        }

        /** First sample that is read. */
        val begin: Int get() = first[0]

        /** One past the last sample that is read. */
        val end: Int get() = first[size - 1] + count[size - 1]

        /** Weight of sample [position] in result [index]. */
        fun factorAt(
            index: Int,
            position: Int,
        ): Int = if (position < first[index] + count[index]) factors[index * stride + position - first[index]] else 0

        /** Pillow skips the pass whose length stays; a weight of one does the same to every byte. */
        private fun fillIdentity(from: Int) {
            for (index in 0 until size) {
                first[index] = from + index
                count[index] = 1
                factors[index * stride] = 1 shl PRECISION_BITS
            }
        }

        private fun fill(
            index: Int,
            position: Int,
            input: Int,
            line: DoubleArray,
        ) {
            val center = (position + 0.5) * scale
            val step = 1.0 / filterScale
            val low = (center - support + 0.5).toInt().coerceAtLeast(0)
            val high = (center + support + 0.5).toInt().coerceAtMost(input)
            var sum = 0.0
            for (x in 0 until high - low) {
                val distance = abs((x + low - center + 0.5) * step)
                line[x] = if (distance < 1.0) 1.0 - distance else 0.0
                sum += line[x]
            }
            first[index] = low
            count[index] = high - low
            for (x in 0 until high - low) {
                val weight = if (sum != 0.0) line[x] / sum else line[x]
                factors[index * stride + x] = (0.5 + weight * (1 shl PRECISION_BITS)).toInt()
            }
        }
    }
}
