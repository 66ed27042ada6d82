package dev.edgefiqa.core

/**
 * A fault that the user or the caller can mend.
 *
 * @property what what failed, one clause
 * @property value the offending value, if there is one
 * @property allowed what would have been accepted
 * @property nextStep what can be done now
 */
class ScorerException(
    val what: String,
    val value: Any? = null,
    val allowed: String? = null,
    val nextStep: String? = null,
    cause: Throwable? = null,
) : RuntimeException(
        buildString {
            append(what)
            value?.let { append(": ").append(it) }
            allowed?.let { append(". Allowed: ").append(it) }
            nextStep?.let { append(". Next: ").append(it) }
        },
        cause,
    )
