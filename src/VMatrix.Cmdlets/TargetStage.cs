using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Language;

namespace VMatrix.Commands;

/// <summary>Takes an empty cell of a CSV file as nothing said.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class EmptyIsUnsaidAttribute : ArgumentTransformationAttribute
{
    /// <inheritdoc/>
    public override object? Transform(EngineIntrinsics engineIntrinsics, object inputData) =>
        (inputData is PSObject wrapped ? wrapped.BaseObject : inputData) is string text && string.IsNullOrWhiteSpace(text) ? null : inputData;
}

/// <summary>Allows the stages that a server can be moved to, and none said.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class TargetStageAttribute : ValidateArgumentsAttribute
{
    /// <inheritdoc/>
    protected override void Validate(object arguments, EngineIntrinsics engineIntrinsics)
    {
        if (arguments is Stage.Disposed)
        {
            throw new ValidationMetadataException(
                "A server moves to the Nest, the Chamber or the Matrix. Remove-VMatrixServer disposes of one; Restore-VMatrixServer brings a disposed one back to the Nest.");
        }
    }
}

/// <summary>Completes the stages that a server can be moved to.</summary>
public sealed class StageCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        from stage in new[] { Stage.Chamber, Stage.Matrix, Stage.Nest }
        where stage.ToString().StartsWith((wordToComplete ?? "").Trim('\'', '"'), StringComparison.OrdinalIgnoreCase)
        select new CompletionResult(stage.ToString());
}
