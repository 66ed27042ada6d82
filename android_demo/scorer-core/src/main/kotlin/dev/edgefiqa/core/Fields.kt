package dev.edgefiqa.core

/**
 * The members of one JSON object, read by name and type.
 *
 * Every fault names the path of the member. With [allowOthers] false, [finish] refuses members
 * that nobody asked for, so that a misspelt setting is never ignored.
 *
 * @param value the object
 * @param path what messages call it
 */
class Fields(
    value: Json,
    private val path: String,
    private val allowOthers: Boolean = false,
) {
    private val members = (value as? Json.Obj)?.members ?: throw wrong(path, "an object")
    private val asked = HashSet<String>()

    /** Names of all members. */
    val names: Set<String> get() = members.keys

    /** A required string. */
    fun string(name: String): String = (get(name) as? Json.Str)?.value ?: throw wrong(name, "a string")

    /** A required string that is one of [allowed]. */
    fun choice(
        name: String,
        allowed: Collection<String>,
    ): String = string(name).also { if (it !in allowed) throw wrong(name, allowed.joinToString(), it) }

    /** A required lower-case SHA-256 in hexadecimal. */
    fun sha256(name: String): String =
        string(name).also { if (!SHA256.matches(it)) throw wrong(name, "64 hexadecimal digits, lower case", it) }

    /** A required integer from [allowed]. */
    fun long(
        name: String,
        allowed: LongRange = Long.MIN_VALUE..Long.MAX_VALUE,
    ): Long {
        val text = (get(name) as? Json.Num)?.text
        val number = text?.toLongOrNull()
        if (number == null || number !in allowed) {
            throw wrong(name, "an integer from ${allowed.first} to ${allowed.last}", text)
        }
        return number
    }

    /** A required integer from [allowed]. */
    fun int(
        name: String,
        allowed: IntRange,
    ): Int = long(name, allowed.first.toLong()..allowed.last.toLong()).toInt()

    /** A required finite number. */
    fun double(name: String): Double =
        (get(name) as? Json.Num)?.text?.toDouble()?.takeIf { it.isFinite() } ?: throw wrong(name, "a finite number")

    /** A required boolean. */
    fun bool(name: String): Boolean = (get(name) as? Json.Bool)?.value ?: throw wrong(name, "true or false")

    /** A required array. */
    fun array(name: String): List<Json> = (get(name) as? Json.Arr)?.items ?: throw wrong(name, "an array")

    /** A required object. */
    fun fields(
        name: String,
        allowOthers: Boolean = false,
    ): Fields = Fields(get(name), "$path.$name", allowOthers)

    /** An object, or null where the member is `null` or absent. */
    fun optionalFields(name: String): Fields? {
        asked += name
        val value = members[name]
        return if (value == null || value == Json.Null) null else Fields(value, "$path.$name")
    }

    /** Refuses what nobody asked for. */
    fun finish() {
        val unknown = members.keys - asked
        if (!allowOthers && unknown.isNotEmpty()) {
            throw ScorerException("$path has unknown members", unknown.joinToString(), asked.sorted().joinToString())
        }
    }

    private fun get(name: String): Json {
        asked += name
        return members[name] ?: throw ScorerException("$path.$name is missing")
    }

    private fun wrong(
        name: String,
        allowed: String,
        value: Any? = null,
    ) = ScorerException("$path.$name is not usable", value, allowed)

    private companion object {
        val SHA256 = Regex("[0-9a-f]{64}")
    }
}
