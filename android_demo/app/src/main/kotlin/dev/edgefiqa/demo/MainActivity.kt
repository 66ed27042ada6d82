package dev.edgefiqa.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.ContentValues
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.MediaStore
import android.view.View
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.ImageView
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TextView
import dev.edgefiqa.core.BundledModel
import dev.edgefiqa.core.QualityBand
import dev.edgefiqa.core.ScorerException

/** The one screen: choose a model, choose photographs, read the score. */
class MainActivity : Activity() {
    private lateinit var session: Session
    private lateinit var models: List<BundledModel>
    private var cameraPhoto: Uri? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_main)
        cameraPhoto = savedInstanceState?.getString(STATE_CAMERA)?.let(Uri::parse)
        session = lastNonConfigurationInstance as? Session ?: Session(this)
        models = readModels()
        fillSpinner(R.id.model, models.map { "${it.precision} (${it.file})" })
        fillSpinner(R.id.threads, THREADS.map { getString(R.string.threads_option, it) })
        find<Button>(R.id.pick).setOnClickListener { pick(1, REQUEST_PHOTO) }
        find<Button>(R.id.take).setOnClickListener { takePhoto() }
        find<Button>(R.id.burst).setOnClickListener { pick(MAX_BURST, REQUEST_BURST) }
        find<Button>(R.id.goldens).setOnClickListener { choice()?.let(session::checkGoldens) }
        session.onChange = ::render
        render(session.state)
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(STATE_CAMERA, cameraPhoto?.toString())
    }

    override fun onRetainNonConfigurationInstance(): Any {
        session.onChange = {}
        return session
    }

    override fun onDestroy() {
        super.onDestroy()
        if (!isChangingConfigurations) session.close()
    }

    override fun onActivityResult(
        requestCode: Int,
        resultCode: Int,
        data: Intent?,
    ) {
        val choice = choice()
        if (requestCode == REQUEST_CAMERA) {
            val photo = cameraPhoto
            cameraPhoto = null
            if (photo == null) return
            if (resultCode == RESULT_OK && choice != null) {
                session.score(choice, listOf(photo), discard = true)
            } else {
                contentResolver.delete(photo, null, null)
            }
        } else if (resultCode == RESULT_OK && choice != null && data != null) {
            val photos = urisOf(data)
            if (photos.isNotEmpty()) session.score(choice, photos)
        }
    }

    private fun readModels(): List<BundledModel> {
        val found =
            try {
                session.store.models(session.runtime)
            } catch (error: ScorerException) {
                session.fail(error.message.orEmpty())
                return emptyList()
            }
        if (found.isEmpty()) session.fail(getString(R.string.no_models, session.runtime.id))
        return found
    }

    private fun choice(): ModelChoice? {
        val model = models.getOrNull(find<Spinner>(R.id.model).selectedItemPosition) ?: return null
        return ModelChoice(model, THREADS[find<Spinner>(R.id.threads).selectedItemPosition])
    }

    /** Android's photo picker where there is one, else the document picker; neither needs a permission. */
    private fun pick(
        count: Int,
        request: Int,
    ) {
        val intent =
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
                Intent(MediaStore.ACTION_PICK_IMAGES).setType("image/*").also {
                    if (count > 1) it.putExtra(MediaStore.EXTRA_PICK_IMAGES_MAX, count)
                }
            } else {
                Intent(Intent.ACTION_OPEN_DOCUMENT)
                    .addCategory(Intent.CATEGORY_OPENABLE)
                    .setType("image/*")
                    .putExtra(Intent.EXTRA_ALLOW_MULTIPLE, count > 1)
            }
        launch(intent, request)
    }

    /** The camera app writes into a media entry of ours, which is deleted after scoring. */
    private fun takePhoto() {
        val values = ContentValues()
        values.put(MediaStore.MediaColumns.MIME_TYPE, "image/jpeg")
        val photo = contentResolver.insert(MediaStore.Images.Media.EXTERNAL_CONTENT_URI, values)
        if (photo == null) {
            session.fail(getString(R.string.no_camera))
            return
        }
        cameraPhoto = photo
        val intent = Intent(MediaStore.ACTION_IMAGE_CAPTURE).putExtra(MediaStore.EXTRA_OUTPUT, photo)
        intent.addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        if (!launch(intent, REQUEST_CAMERA)) {
            cameraPhoto = null
            contentResolver.delete(photo, null, null)
        }
    }

    private fun launch(
        intent: Intent,
        request: Int,
    ): Boolean =
        try {
            startActivityForResult(intent, request)
            true
        } catch (_: ActivityNotFoundException) {
            session.fail(getString(R.string.no_camera))
            false
        }

    private fun urisOf(data: Intent): List<Uri> {
        val clip = data.clipData ?: return listOfNotNull(data.data)
        return (0 until clip.itemCount).mapNotNull { clip.getItemAt(it).uri }.take(MAX_BURST)
    }

    private fun render(state: ScreenState) {
        val working = state is ScreenState.Working
        find<ProgressBar>(R.id.progress).visibility = if (working) View.VISIBLE else View.INVISIBLE
        for (id in ACTIONS) find<Button>(id).isEnabled = !working && models.isNotEmpty()
        find<TextView>(R.id.status).text = status(state)
        find<TextView>(R.id.details).text = details(state)
        renderPhoto(state)
    }

    private fun renderPhoto(state: ScreenState) {
        val preview = (state as? ScreenState.Scored)?.preview
        val view = find<ImageView>(R.id.photo)
        view.setImageBitmap(preview)
        view.visibility = if (preview == null) View.GONE else View.VISIBLE
        if (preview != null) view.contentDescription = getString(R.string.photo_description, status(state))
    }

    private fun status(state: ScreenState): String =
        when (state) {
            ScreenState.Empty -> {
                getString(R.string.no_photo)
            }

            is ScreenState.Working -> {
                if (state.total > 1) {
                    getString(R.string.working_count, state.done, state.total)
                } else {
                    getString(R.string.working)
                }
            }

            is ScreenState.Scored -> {
                state.photos[state.best ?: 0].fold(::scoreLine, ::faultLine)
            }

            is ScreenState.Checked -> {
                checkedLine(state)
            }

            is ScreenState.Failed -> {
                getString(R.string.failed, state.what)
            }
        }

    private fun details(state: ScreenState): String =
        when (state) {
            is ScreenState.Scored -> {
                scoredDetails(state)
            }

            is ScreenState.Checked -> {
                state.checks.filterNot { it.passed }.joinToString("\n") {
                    getString(R.string.golden_fault, it.case, it.level.id, it.fault)
                }
            }

            else -> {
                ""
            }
        }

    private fun scoredDetails(state: ScreenState.Scored): String {
        val lines = ArrayList<String>()
        val best = state.best
        if (state.photos.size > 1 && best != null) {
            lines += getString(R.string.burst_line, best + 1, state.photos.size)
        }
        best?.let { state.photos[it].getOrNull() }?.let {
            lines += getString(R.string.stages_line, it.decodeNs / MS, it.preprocessNs / MS, it.scoreNs / MS)
        }
        val runtime = "${session.runtime.id} ${session.runtimeVersion}"
        lines += getString(R.string.load_line, runtime, state.choice.model.precision, state.loadNs / MS)
        if (state.photos.size > 1) {
            state.photos.forEachIndexed { index, photo ->
                lines += getString(R.string.burst_row, index + 1, photo.fold(::scoreLine, ::faultLine))
            }
        }
        return lines.joinToString("\n")
    }

    private fun checkedLine(state: ScreenState.Checked): String {
        val failed = state.checks.count { !it.passed }
        return if (failed == 0) {
            getString(R.string.goldens_passed, state.checks.size)
        } else {
            getString(R.string.goldens_failed, failed, state.checks.size)
        }
    }

    private fun scoreLine(photo: ScoredPhoto): String {
        val range = session.store.bundle?.scoreRange ?: DEFAULT_RANGE
        val band = if (photo.score.isNaN()) QualityBand.LOW else QualityBand.of(photo.score, range)
        return getString(R.string.score_line, photo.score, getString(BANDS.getValue(band)))
    }

    private fun faultLine(error: Throwable): String = getString(R.string.not_scored, error.message.orEmpty())

    private fun fillSpinner(
        id: Int,
        rows: List<String>,
    ) {
        val adapter = ArrayAdapter(this, android.R.layout.simple_spinner_item, rows)
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        find<Spinner>(id).adapter = adapter
    }

    private fun <T : View> find(id: Int): T = requireViewById(id)

    private companion object {
        const val STATE_CAMERA = "camera"
        const val REQUEST_PHOTO = 1
        const val REQUEST_BURST = 2
        const val REQUEST_CAMERA = 3
        const val MAX_BURST = 20
        const val MS = 1e6
        val DEFAULT_RANGE = 0.0..1.0
        val THREADS = listOf(1, 2, 4)
        val ACTIONS = listOf(R.id.pick, R.id.take, R.id.burst, R.id.goldens)
        val BANDS =
            mapOf(
                QualityBand.LOW to R.string.band_low,
                QualityBand.MEDIUM to R.string.band_medium,
                QualityBand.HIGH to R.string.band_high,
            )
    }
}
