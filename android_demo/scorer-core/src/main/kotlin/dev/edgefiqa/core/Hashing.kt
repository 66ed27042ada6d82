package dev.edgefiqa.core

import java.io.File
import java.security.MessageDigest

/** SHA-256 in lower-case hexadecimal. */
object Hashing {
    private const val BUFFER_BYTES = 1 shl 16

    /** Hashes bytes. */
    fun sha256(bytes: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(bytes))

    /** Hashes a file's content without loading it. */
    fun sha256(file: File): String {
        val digest = MessageDigest.getInstance("SHA-256")
        file.inputStream().use { stream ->
            val buffer = ByteArray(BUFFER_BYTES)
            while (true) {
                val count = stream.read(buffer)
                if (count < 0) break
                digest.update(buffer, 0, count)
            }
        }
        return hex(digest.digest())
    }

    private fun hex(bytes: ByteArray): String = bytes.joinToString("") { "%02x".format(it) }
}
