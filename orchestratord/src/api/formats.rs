//! Spells the formats of unsigned integers as the OpenAPI format registry does (`uint32`): the documents' library writes
//! `u-int32`, which no tool knows.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems};
use utoipa::openapi::{KnownFormat, OpenApi, RefOr, Schema, SchemaFormat};

use super::common_answers::operations;

/// Respells a whole document: its schemas, parameters and headers.
pub(super) fn respell(document: &mut OpenApi) {
    let components = document.components.iter_mut();
    components
        .flat_map(|components| components.schemas.values_mut())
        .for_each(schema);
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|(_, operation)| in_operation(operation));
    }
}

fn in_operation(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            parameter.schema.iter_mut().for_each(schema);
        }
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer {
            for header in answer.headers.values_mut() {
                if let RefOr::T(header) = header {
                    header.schema.iter_mut().for_each(schema);
                }
            }
        }
    }
}

fn schema(any: &mut RefOr<Schema>) {
    if let RefOr::T(any) = any {
        inside(any);
    }
}

fn inside(any: &mut Schema) {
    match any {
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                schema(items);
            }
            array.prefix_items.iter_mut().for_each(inside);
        }
        Schema::Object(object) => {
            object.properties.values_mut().for_each(schema);
            if let Some(AdditionalProperties::RefOr(more)) = object.additional_properties.as_deref_mut() {
                schema(more);
            }
            if let Some(format) = &mut object.format {
                respelled(format);
            }
        }
        Schema::OneOf(some) => some.items.iter_mut().for_each(schema),
        Schema::AllOf(some) => some.items.iter_mut().for_each(schema),
        Schema::AnyOf(some) => some.items.iter_mut().for_each(schema),
        // The library may learn kinds of schemas; those of today are all above.
        _ => {}
    }
}

fn respelled(format: &mut SchemaFormat) {
    let name = match format {
        SchemaFormat::KnownFormat(KnownFormat::UInt8) => "uint8",
        SchemaFormat::KnownFormat(KnownFormat::UInt16) => "uint16",
        SchemaFormat::KnownFormat(KnownFormat::UInt32) => "uint32",
        SchemaFormat::KnownFormat(KnownFormat::UInt64) => "uint64",
        _ => return,
    };
    *format = SchemaFormat::Custom(name.to_owned());
}
