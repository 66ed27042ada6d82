package dev.edgefiqa.demo

import android.app.Activity
import android.app.Instrumentation
import android.os.Bundle
import android.os.SystemClock
import dev.edgefiqa.core.Agent
import dev.edgefiqa.core.ScorerException
import java.io.File
import java.io.IOException

/**
 * The benchmark agent: one job, one fresh process.
 *
 * `am instrument -w -r -e job /data/local/tmp/edgefiqa/JOB.json <application id>/dev.edgefiqa.demo.AgentInstrumentation`
 * runs the job and names the report file in the result `report`. The report itself, with its
 * errors, is the answer; the result code only says whether it could be written.
 */
class AgentInstrumentation : Instrumentation() {
    private var jobPath: String? = null

    override fun onCreate(arguments: Bundle?) {
        super.onCreate(arguments)
        jobPath = arguments?.getString(ARGUMENT_JOB)
        start()
    }

    override fun onStart() {
        super.onStart()
        val results = Bundle()
        val code =
            try {
                runJob(results)
                Activity.RESULT_OK
            } catch (error: ScorerException) {
                results.putString(RESULT_FAULT, error.message)
                Activity.RESULT_CANCELED
            } catch (error: IOException) {
                results.putString(RESULT_FAULT, error.toString())
                Activity.RESULT_CANCELED
            }
        finish(code, results)
    }

    private fun runJob(results: Bundle) {
        val job = jobPath ?: throw ScorerException("no job was named", nextStep = "add -e $ARGUMENT_JOB PATH")
        val directory =
            targetContext.getExternalFilesDir(REPORTS)
                ?: throw ScorerException("the shared storage is not mounted", nextStep = "unlock the device")
        val agent =
            Agent(
                name = targetContext.packageName,
                version = BuildConfig.VERSION_NAME,
                factory = scorerFactory(),
                decoder = AndroidPhotoDecoder,
                probe = AndroidProbe(targetContext),
                clock = SystemClock::elapsedRealtimeNanos,
            )
        val (file, report) = agent.runAndWrite(File(job), directory)
        results.putString(RESULT_REPORT, file.path)
        results.putString(RESULT_PASSED, report.passed.toString())
    }

    private companion object {
        const val ARGUMENT_JOB = "job"
        const val REPORTS = "reports"
        const val RESULT_REPORT = "report"
        const val RESULT_PASSED = "passed"
        const val RESULT_FAULT = "fault"
    }
}
