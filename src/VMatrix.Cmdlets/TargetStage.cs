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

/// <summary>Allows the stages that a server can be moved to, by name or its beginning, and none said.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class TargetStageAttribute : ValidateArgumentsAttribute
{
    internal static readonly Stage[] All = [Stage.Chamber, Stage.Matrix, Stage.Nest];

    /// <summary>The stage of a name; null for an empty one.</summary>
    internal static Stage? Read(string? name) =>
        string.IsNullOrWhiteSpace(name) ? null : All.Cast<Stage?>().FirstOrDefault(s => s.ToString()!.StartsWith(name!.Trim(), StringComparison.OrdinalIgnoreCase));

    /// <inheritdoc/>
    protected override void Validate(object arguments, EngineIntrinsics engineIntrinsics)
    {
        string? name = arguments?.ToString();
        if (!string.IsNullOrWhiteSpace(name) && Read(name) is null)
        {
            throw new ValidationMetadataException(
                $"'{name}' is no stage that a server can be moved to: Nest, Chamber or Matrix. Remove-VMatrixServer disposes of a server; Restore-VMatrixServer brings a disposed one back to the Nest.");
        }
    }
}

/// <summary>Completes the stages that a server can be moved to.</summary>
public sealed class StageCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        from stage in TargetStageAttribute.All
        where stage.ToString().StartsWith((wordToComplete ?? "").Trim('\'', '"'), StringComparison.OrdinalIgnoreCase)
        select new CompletionResult(stage.ToString());
}
