package dev.edgefiqa.demo

import android.os.SystemClock
import dev.edgefiqa.core.BundledModel
import dev.edgefiqa.core.GoldenCheck
import dev.edgefiqa.core.GoldenChecker
import dev.edgefiqa.core.Preprocessor
import dev.edgefiqa.core.ScorerException
import dev.edgefiqa.core.ScorerFactory
import dev.edgefiqa.core.TensorScorer
import dev.edgefiqa.core.timed

/**
 * A score and how long each stage took, in nanoseconds.
 *
 * @property score on the scale of the training labels
 */
data class ScoredPhoto(
    val score: Float,
    val decodeNs: Long,
    val preprocessNs: Long,
    val scoreNs: Long,
)

/**
 * Scores photographs with one model at a time. Not thread-safe: one thread owns it.
 *
 * @param factory the runtime
 * @param store the models
 */
class PhotoScorer(
    private val factory: ScorerFactory,
    private val store: ModelStore,
) : AutoCloseable {
    private var opened: Pair<ModelChoice, TensorScorer>? = null

    /** How long the open model took to load, in nanoseconds. */
    var loadNs: Long = 0
        private set

    /** Scores one photograph's file. */
    fun score(
        choice: ModelChoice,
        content: ByteArray,
    ): ScoredPhoto {
        val scorer = open(choice)
        val begin = SystemClock.elapsedRealtimeNanos()
        val picture = AndroidPhotoDecoder.decode(content)
        val decoded = SystemClock.elapsedRealtimeNanos()
        val tensor = Preprocessor(scorer.size).toTensor(picture)
        val preprocessed = SystemClock.elapsedRealtimeNanos()
        val score = scorer.score(tensor)
        val end = SystemClock.elapsedRealtimeNanos()
        return ScoredPhoto(score, decoded - begin, preprocessed - decoded, end - preprocessed)
    }

    /** Checks the model against the bundled golden vectors. */
    fun checkGoldens(choice: ModelChoice): List<GoldenCheck> {
        val scorer = open(choice)
        val checker = GoldenChecker(store.goldens(), store.goldenFiles, AndroidPhotoDecoder)
        return checker.check(choice.model.precision, scorer::score)
    }

    override fun close() {
        opened?.second?.close()
        opened = null
    }

    private fun open(choice: ModelChoice): TensorScorer {
        opened?.let { (current, scorer) -> if (current == choice) return scorer }
        close()
        val file = store.file(choice.model)
        var scorer: TensorScorer? = null
        loadNs = timed(SystemClock::elapsedRealtimeNanos) { scorer = factory.open(file, choice.threads) }
        return checkNotNull(scorer).also {
            checkSize(it)
            opened = choice to it
        }
    }

    private fun checkSize(scorer: TensorScorer) {
        val expected = store.bundle?.size
        if (scorer.size != expected) {
            scorer.close()
            throw ScorerException("the model's input has another size", scorer.size, "$expected pixels")
        }
    }
}

/**
 * What is scored with.
 *
 * @property model one of the bundled models
 * @property threads processor threads
 */
data class ModelChoice(
    val model: BundledModel,
    val threads: Int,
)
