package dev.edgefiqa.core

/** What a score means to a person: thirds of the range of the training labels. */
enum class QualityBand {
    /** Lower third. */
    LOW,

    /** Middle third. */
    MEDIUM,

    /** Upper third. */
    HIGH,
    ;

    companion object {
        /**
         * Returns the band of a score; scores outside the range fall into the outer bands.
         *
         * @param score the model's score
         * @param range lowest and highest training label
         */
        fun of(
            score: Float,
            range: ClosedFloatingPointRange<Double>,
        ): QualityBand {
            if (score.isNaN()) throw ScorerException("the score is not a number", score)
            val share = (score - range.start) / (range.endInclusive - range.start)
            return entries[(share * entries.size).toInt().coerceIn(0, entries.size - 1)]
        }
    }
}

/** Index of the best of several scores, the first of equals; null where none could be scored. */
fun bestFrame(scores: List<Float?>): Int? =
    scores.indices
        .filter { scores[it]?.isNaN() == false }
        .maxByOrNull { scores[it] ?: Float.NEGATIVE_INFINITY }
