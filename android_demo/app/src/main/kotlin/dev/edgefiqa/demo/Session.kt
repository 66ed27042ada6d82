package dev.edgefiqa.demo

import android.content.ContentResolver
import android.content.Context
import android.graphics.Bitmap
import android.net.Uri
import android.os.Handler
import android.os.Looper
import dev.edgefiqa.core.GoldenCheck
import dev.edgefiqa.core.ScorerException
import dev.edgefiqa.core.bestFrame
import java.io.IOException
import java.util.concurrent.Executors

/** What the screen shows. */
sealed interface ScreenState {
    /** Nothing was scored yet. */
    data object Empty : ScreenState

    /** [done] of [total] photographs are scored. */
    data class Working(
        val done: Int,
        val total: Int,
    ) : ScreenState

    /** Scores of one or several photographs; [best] is the index of the highest. */
    data class Scored(
        val photos: List<Result<ScoredPhoto>>,
        val best: Int?,
        val preview: Bitmap?,
        val choice: ModelChoice,
        val loadNs: Long,
    ) : ScreenState

    /** Outcome of the golden check. */
    data class Checked(
        val checks: List<GoldenCheck>,
        val choice: ModelChoice,
    ) : ScreenState

    /** What went wrong, for the person. */
    data class Failed(
        val what: String,
    ) : ScreenState
}

/**
 * The work behind the screen. It outlives rotation: the activity hands it to its successor.
 *
 * State is read and changed on the main thread; scoring happens on one thread of its own.
 *
 * @param context any context; only the application's is kept
 */
class Session(
    context: Context,
) {
    private val resolver: ContentResolver = context.applicationContext.contentResolver
    private val factory = scorerFactory()
    private val scorer by lazy { PhotoScorer(factory, store) }
    private val worker = Executors.newSingleThreadExecutor()
    private val main = Handler(Looper.getMainLooper())

    /** The models in this app. */
    val store = ModelStore(context.applicationContext)

    /** The runtime of this flavour. */
    val runtime get() = factory.runtime

    /** Version of the runtime. */
    val runtimeVersion get() = factory.runtimeVersion

    /** What the screen shows. */
    var state: ScreenState = ScreenState.Empty
        private set

    /** Called on the main thread after each change of [state]. */
    var onChange: (ScreenState) -> Unit = {}

    /** Scores photographs; of several the best is shown. */
    fun score(
        choice: ModelChoice,
        photos: List<Uri>,
        discard: Boolean = false,
    ) = work(photos.size) {
        val results =
            photos.mapIndexed { index, photo ->
                attempt { scorer.score(choice, read(photo)) }.also {
                    main.post { show(ScreenState.Working(index + 1, photos.size)) }
                }
            }
        val best = bestFrame(results.map { it.getOrNull()?.score })
        val preview = best?.let { attempt { AndroidPhotoDecoder.decodePreview(read(photos[it]), PREVIEW_SIDE) } }
        if (discard) photos.forEach { resolver.delete(it, null, null) }
        ScreenState.Scored(results, best, preview?.getOrNull(), choice, scorer.loadNs)
    }

    /** Runs the golden check. */
    fun checkGoldens(choice: ModelChoice) = work(1) { ScreenState.Checked(scorer.checkGoldens(choice), choice) }

    /** Shows a fault that happened before any work. */
    fun fail(what: String) = show(ScreenState.Failed(what))

    /** Ends the worker after what it is doing; the session cannot be used again. */
    fun close() {
        onChange = {}
        worker.execute { scorer.close() }
        worker.shutdown()
    }

    private fun work(
        total: Int,
        action: () -> ScreenState,
    ) {
        show(ScreenState.Working(0, total))
        worker.execute {
            val result = attempt(action)
            val next = result.getOrElse { ScreenState.Failed(it.message ?: it.toString()) }
            main.post { show(next) }
        }
    }

    private fun show(next: ScreenState) {
        state = next
        onChange(next)
    }

    private fun read(photo: Uri): ByteArray =
        resolver.openInputStream(photo)?.use { it.readBytes() } ?: throw ScorerException("the photo is gone", photo)

    /** One photograph that fails, or a runtime without its library, must not end the app. */
    private fun <T> attempt(action: () -> T): Result<T> =
        try {
            Result.success(action())
        } catch (error: RuntimeException) {
            Result.failure(error)
        } catch (error: IOException) {
            Result.failure(error)
        } catch (error: LinkageError) {
            Result.failure(error)
        } catch (error: OutOfMemoryError) {
            Result.failure(error)
        }

    private companion object {
        const val PREVIEW_SIDE = 1080
    }
}
