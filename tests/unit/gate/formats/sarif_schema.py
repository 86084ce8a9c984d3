"""The part of SARIF 2.1.0 that the gate writes, as a JSON schema of our own after the standard's sections.

It is stricter than the standard: a property that is not named here is an error, so a misspelt
one cannot pass for an extension.
"""

from __future__ import annotations

from typing import Any


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _array(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


TEXT = {"type": "string", "minLength": 1}
URI = {"type": "string", "format": "uri-reference", "minLength": 1}
INDEX = {"type": "integer", "minimum": 0}
BAG = {"type": "object"}  # 3.8 property bags
MESSAGE = _object("text", text={"type": "string"})  # 3.11
MULTIFORMAT = _object("text", text={"type": "string"})  # 3.12
LEVEL = _one_of("error", "warning", "note", "none")  # 3.27.10
PLACE = _object("uri", uri=URI)  # 3.4 artifactLocation
REGION = _object("startLine", startLine={"type": "integer", "minimum": 1})  # 3.30
PHYSICAL = _object("artifactLocation", artifactLocation=PLACE, region=REGION)  # 3.29
STRING = {"type": "string"}
LOGICAL = _object("", name=STRING, fullyQualifiedName=STRING, kind=_one_of("function"))  # 3.33
LOCATION = _object(
    "", physicalLocation=PHYSICAL, logicalLocations=_array(LOGICAL, 1), message=MESSAGE
)  # 3.28
STEP = _object(  # 3.38 threadFlowLocation
    "location",
    location=LOCATION,
    executionOrder={"type": "integer", "minimum": 1},
    state={"type": "object", "additionalProperties": MULTIFORMAT},
    importance=_one_of("important", "essential", "unimportant"),
)
FLOW = _object(
    "threadFlows", threadFlows=_array(_object("locations", locations=_array(STEP, 1)), 1)
)  # 3.36, 3.37
SUPPRESSION = _object(  # 3.35
    "kind",
    kind=_one_of("inSource", "external"),
    justification=TEXT,
)
RESULT = _object(  # 3.27
    "message ruleId",
    ruleId=TEXT,
    ruleIndex=INDEX,
    level=LEVEL,
    message=MESSAGE,
    locations=_array(LOCATION, 1),
    relatedLocations=_array(LOCATION, 1),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    suppressions=_array(SUPPRESSION, 1),
    codeFlows=_array(FLOW, 1),
    properties=BAG,
)
RULE = _object("id", id=TEXT, shortDescription=MULTIFORMAT, properties=BAG)  # 3.49 reportingDescriptor
DRIVER = _object("name", name=TEXT, semanticVersion=TEXT, rules=_array(RULE))  # 3.19 toolComponent
NOTIFICATION = _object("message", level=LEVEL, message=MESSAGE, descriptor=_object("id", id=TEXT))  # 3.58
INVOCATION = _object(  # 3.20
    "executionSuccessful",
    executionSuccessful={"type": "boolean"},
    exitCode={"type": "integer"},
    toolExecutionNotifications=_array(NOTIFICATION),
)
ARTIFACT = _object(  # 3.24
    "location", location=PLACE, hashes={"type": "object", "additionalProperties": {"type": "string"}}
)
RUN = _object(  # 3.14
    "tool",
    tool=_object("driver", driver=DRIVER),
    invocations=_array(INVOCATION),
    artifacts=_array(ARTIFACT),
    columnKind=_one_of("utf16CodeUnits", "unicodeCodePoints"),
    results=_array(RESULT),
)
LOG: dict[str, Any] = {  # 3.13
    **_object("version runs", version=_one_of("2.1.0"), runs=_array(RUN)),
    "$schema": "http://json-schema.org/draft-07/schema#",
}
LOG["properties"]["$schema"] = {"type": "string", "format": "uri"}
