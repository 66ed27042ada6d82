package dev.edgefiqa.demo

import android.content.Context
import android.content.res.AssetManager
import dev.edgefiqa.core.Bundle
import dev.edgefiqa.core.BundledModel
import dev.edgefiqa.core.FileSource
import dev.edgefiqa.core.Goldens
import dev.edgefiqa.core.Hashing
import dev.edgefiqa.core.RuntimeId
import dev.edgefiqa.core.ScorerException
import java.io.File
import java.io.IOException

/**
 * The models and golden vectors that `edgefiqa bundle --android` laid into the app's assets.
 *
 * @param context any context of this app
 */
class ModelStore(
    context: Context,
) {
    private val assets: AssetManager = context.assets
    private val directory = File(context.noBackupFilesDir, "models")

    /** The bundle, or null where the app was built without one. */
    val bundle: Bundle? by lazy {
        val text =
            try {
                read(Bundle.FILE_NAME).decodeToString()
            } catch (_: IOException) {
                null
            }
        text?.let(Bundle::parse)
    }

    /** The bundled models that [runtime] executes. */
    fun models(runtime: RuntimeId): List<BundledModel> = bundle?.models.orEmpty().filter { it.runtime == runtime }

    /** The golden vectors' own files. */
    val goldenFiles = FileSource { read("$GOLDENS/$it") }

    /** Reads the golden vectors, verified by the bundle's hash. */
    fun goldens(): Goldens {
        val content = goldenFiles.read(Goldens.FILE_NAME)
        requireHash(Goldens.FILE_NAME, Hashing.sha256(content), bundle?.goldensSha256)
        return Goldens.parse(content.decodeToString())
    }

    /** Copies a model out of the assets, since runtimes map files; reuses a copy that is whole. */
    fun file(model: BundledModel): File {
        val target = File(directory, model.file)
        if (target.isFile && Hashing.sha256(target) == model.sha256) return target
        directory.mkdirs()
        val staged = File(directory, "${model.file}.staged")
        assets.open("$ROOT/${model.file}").use { source -> staged.outputStream().use(source::copyTo) }
        requireHash(model.file, Hashing.sha256(staged), model.sha256)
        if (!staged.renameTo(target)) throw ScorerException("the model cannot be stored", target)
        return target
    }

    private fun read(name: String): ByteArray = assets.open("$ROOT/$name").use { it.readBytes() }

    private fun requireHash(
        name: String,
        found: String,
        expected: String?,
    ) {
        if (found != expected) {
            throw ScorerException("$name is not the bundled file", found, expected, "bundle and build the app again")
        }
    }

    private companion object {
        const val ROOT = "edgefiqa"
        const val GOLDENS = "goldens"
    }
}
