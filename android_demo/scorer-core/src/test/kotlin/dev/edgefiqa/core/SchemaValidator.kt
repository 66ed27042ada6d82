package dev.edgefiqa.core

/**
 * The keywords of JSON Schema 2020-12 that `agent.schema.json` uses; any other is a fault, so that
 * no rule is passed over.
 */
internal class SchemaValidator(
    private val root: Json.Obj,
) {
    /** Returns the faults of [value] against the definition [name]; empty if it is valid. */
    fun faults(
        name: String,
        value: Json,
    ): List<String> = check(definition(name), value, name)

    private fun definition(name: String): Json.Obj {
        val definitions = root.members["\$defs"] as Json.Obj
        return definitions.members[name] as? Json.Obj ?: error("no definition $name")
    }

    private fun check(
        schema: Json.Obj,
        value: Json,
        path: String,
    ): List<String> = schema.members.flatMap { (keyword, rule) -> checkKeyword(keyword, rule, schema, value, path) }

    private fun checkKeyword(
        keyword: String,
        rule: Json,
        schema: Json.Obj,
        value: Json,
        path: String,
    ): List<String> =
        when (keyword) {
            "title", "description", "default" -> emptyList()
            "\$ref" -> check(definition((rule as Json.Str).value.removePrefix("#/\$defs/")), value, path)
            "type" -> expect(typeOf(value, (rule as Json.Str).value), "$path is not of type ${rule.value}")
            "const" -> expect(value == rule, "$path is not $rule")
            "enum" -> expect(value in (rule as Json.Arr).items, "$path is none of the allowed values: $value")
            "anyOf" -> checkAny(rule as Json.Arr, value, path)
            "pattern" -> expect(value !is Json.Str || Regex((rule as Json.Str).value) in value.value, "$path: pattern")
            "minimum" -> expect(value !is Json.Num || number(value) >= number(rule), "$path is below $rule")
            "maximum" -> expect(value !is Json.Num || number(value) <= number(rule), "$path is above $rule")
            "items" -> checkItems(rule as Json.Obj, value, path)
            "properties" -> checkProperties(rule as Json.Obj, value, path)
            "required" -> checkRequired(rule as Json.Arr, value, path)
            "additionalProperties" -> checkOthers(schema, value, path)
            else -> error("the validator does not know the keyword $keyword")
        }

    private fun checkAny(
        rule: Json.Arr,
        value: Json,
        path: String,
    ): List<String> {
        val results = rule.items.map { check(it as Json.Obj, value, path) }
        return if (results.any { it.isEmpty() }) emptyList() else results.flatten()
    }

    private fun checkItems(
        rule: Json.Obj,
        value: Json,
        path: String,
    ): List<String> =
        (value as? Json.Arr)?.items.orEmpty().flatMapIndexed { index, item -> check(rule, item, "$path[$index]") }

    private fun checkProperties(
        rule: Json.Obj,
        value: Json,
        path: String,
    ): List<String> =
        (value as? Json.Obj)?.members.orEmpty().flatMap { (name, member) ->
            (rule.members[name] as? Json.Obj)?.let { check(it, member, "$path.$name") }.orEmpty()
        }

    private fun checkRequired(
        rule: Json.Arr,
        value: Json,
        path: String,
    ): List<String> {
        val members = (value as? Json.Obj)?.members ?: return emptyList()
        return rule.items
            .map { (it as Json.Str).value }
            .filter { it !in members }
            .map { "$path.$it is missing" }
    }

    private fun checkOthers(
        schema: Json.Obj,
        value: Json,
        path: String,
    ): List<String> {
        // A map of any keys to one kind of value carries a schema here; this protocol has none.
        check(schema.members["additionalProperties"] == Json.Bool(false)) { "$path: only false is known" }
        val known = (schema.members["properties"] as Json.Obj).members.keys
        return (value as? Json.Obj)
            ?.members
            .orEmpty()
            .keys
            .filter { it !in known }
            .map { "$path.$it is unknown" }
    }

    private fun typeOf(
        value: Json,
        type: String,
    ): Boolean =
        when (type) {
            "object" -> value is Json.Obj
            "array" -> value is Json.Arr
            "string" -> value is Json.Str
            "boolean" -> value is Json.Bool
            "null" -> value is Json.Null
            "number" -> value is Json.Num
            "integer" -> value is Json.Num && value.text.toLongOrNull() != null
            else -> error("the validator does not know the type $type")
        }

    private fun number(value: Json): Double = (value as Json.Num).text.toDouble()

    private fun expect(
        holds: Boolean,
        fault: String,
    ): List<String> = if (holds) emptyList() else listOf(fault)
}
