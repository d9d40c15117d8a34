using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace VMatrix.Tests;

/// <summary>What the staged cmdlets promise, read from their metadata for both frameworks.</summary>
public sealed class CmdletTests : IDisposable
{
    private static readonly string[] s_reading = ["Get", "Test", "Compare"];
    private readonly List<MetadataLoadContext> _contexts = [];

    public void Dispose() => _contexts.ForEach(c => c.Dispose());

    [Theory, MemberData(nameof(Frameworks))]
    public void Manifest_exports_exactly_the_cmdlets(string framework)
    {
        string[] found = [.. Cmdlets(framework).Select(c => c.Name).Order(StringComparer.Ordinal)];
        Assert.NotEmpty(found);
        Assert.Equal(Staged.ExportedCmdlets.Order(StringComparer.Ordinal), found);
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Verbs_are_approved_and_nouns_are_singular(string framework)
    {
        // The approved verbs are constants of the reference assembly: read, never instantiated.
        var approved = Load(framework).GetReferencedAssemblies();
        var automation = _contexts[^1].LoadFromAssemblyName(approved.Single(a => a.Name == "System.Management.Automation"));
        var verbs = automation.GetTypes().Where(t => t.Namespace == "System.Management.Automation" && t.Name.StartsWith("Verbs", StringComparison.Ordinal))
            .SelectMany(t => t.GetFields(BindingFlags.Public | BindingFlags.Static)).Select(f => f.Name).ToHashSet(StringComparer.Ordinal);
        Assert.True(verbs.Count > 80);
        foreach (var cmdlet in Cmdlets(framework))
        {
            Assert.Contains(cmdlet.Verb, verbs);
            Assert.Matches("^VMatrix[A-Z][a-z]+$", cmdlet.Noun);
            Assert.DoesNotMatch("s$", cmdlet.Noun);
        }
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Classes_and_files_are_named_after_their_cmdlet(string framework)
    {
        foreach (var cmdlet in Cmdlets(framework))
        {
            Assert.Equal($"{cmdlet.Verb}{cmdlet.Noun}Command", cmdlet.Type.Name);
            Assert.True(File.Exists(Path.Combine(Staged.Repo, "src", "VMatrix.Cmdlets", "Commands", cmdlet.Type.Name + ".cs")), cmdlet.Name);
        }
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void What_changes_something_asks_first_and_what_reads_does_not(string framework)
    {
        foreach (var cmdlet in Cmdlets(framework))
            Assert.True(s_reading.Contains(cmdlet.Verb) != cmdlet.Named("SupportsShouldProcess") is true, cmdlet.Name);
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void What_removes_has_high_impact(string framework)
    {
        const int high = 3;
        foreach (var cmdlet in Cmdlets(framework).Where(c => c.Verb is "Remove" or "Unregister"))
            Assert.Equal(high, cmdlet.Named("ConfirmImpact"));
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Every_cmdlet_has_a_pool_and_only_reading_ones_take_it_from_the_pipeline(string framework)
    {
        foreach (var cmdlet in Cmdlets(framework))
        {
            var pool = Assert.Single(Parameters(cmdlet.Type), p => p.Name == "Pool");
            // What is compared, or is to be explained, comes down the pipeline, not the pool.
            Assert.Equal(cmdlet.Verb is "Get" or "Test" && cmdlet.Name != "Get-VMatrixPlan", Attributes(pool, "ParameterAttribute").Any(a => Named(a, "ValueFromPipeline") is true));
        }
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Parameters_have_types_of_PowerShell_or_our_own(string framework)
    {
        foreach (var (cmdlet, parameter) in AllParameters(framework))
        {
            var type = parameter.PropertyType;
            type = type.IsArray ? type.GetElementType()! : type;
            type = type.IsGenericType ? type.GetGenericArguments()[0] : type;
            string assembly = type.Assembly.GetName().Name!;
            Assert.True(assembly is "VMatrix.Cmdlets" or "VMatrix.Model" or "netstandard" or "System.Private.CoreLib" or "System.Runtime" or "System.Management.Automation",
                $"{cmdlet.Name} -{parameter.Name} is {type} of {assembly}");
        }
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Only_where_a_server_goes_binds_by_property_name(string framework)
    {
        // A name that binds by property wins over the id of a deserialized object, and the wrong machine moves.
        string[] bound = [.. AllParameters(framework)
            .Where(p => Attributes(p.Parameter, "ParameterAttribute").Any(a => Named(a, "ValueFromPipelineByPropertyName") is true))
            .Select(p => $"{p.Cmdlet.Name} -{p.Parameter.Name}").Order(StringComparer.Ordinal)];
        Assert.Equal(["Move-VMatrixServer -Destination", "Move-VMatrixServer -Stage"], bound);
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Reading_cmdlets_are_narrowed_by_objects_that_come_down_the_pipeline(string framework)
    {
        string[] narrowed = [.. AllParameters(framework).Where(p => p.Parameter.Name == "InputObject").Select(p => p.Cmdlet.Name).Order(StringComparer.Ordinal)];
        Assert.Equal(["Get-VMatrixHost", "Get-VMatrixMove", "Get-VMatrixServer", "Get-VMatrixService"], narrowed);
    }

    [Fact]
    public void Every_moment_that_users_see_is_a_local_time_and_every_object_of_a_pool_says_which()
    {
        var model = Load("net10.0").GetReferencedAssemblies().Single(a => a.Name == "VMatrix.Model");
        var types = _contexts[^1].LoadFromAssemblyName(model).GetExportedTypes();
        var local = System.Xml.Linq.XDocument.Load(Path.Combine(Staged.Folder, "VMatrix.Types.ps1xml")).Descendants("Type")
            .SelectMany(e => e.Descendants("ScriptProperty").Select(p => $"{e.Element("Name")!.Value}.{p.Element("Name")!.Value}")).ToHashSet(StringComparer.Ordinal);
        string[] moments = [.. types.Where(t => t.Name != "PoolLook").SelectMany(t => t.GetProperties().Where(p => p.PropertyType.FullName!.Contains("System.DateTimeOffset", StringComparison.Ordinal)).Select(p => $"{t.FullName}.{p.Name}"))];
        Assert.Contains("VMatrix.ServerInfo.CreatedAt", moments);
        Assert.Empty(moments.Except(local));
        var returned = Cmdlets("net10.0").SelectMany(c => c.Type.GetCustomAttributesData().Where(a => a.AttributeType.Name == "OutputTypeAttribute"))
            .SelectMany(a => (IReadOnlyCollection<CustomAttributeTypedArgument>)a.ConstructorArguments[0].Value!).Select(a => ((Type)a.Value!).FullName!).Where(n => n.StartsWith("VMatrix.", StringComparison.Ordinal)).Distinct().ToArray();
        Assert.NotEmpty(returned);
        Assert.All(returned, name => Assert.True(types.Single(t => t.FullName == name).GetProperty("Pool") is not null, name));
    }

    [Fact]
    public void Every_record_that_users_see_reads_as_a_text_of_its_own()
    {
        var model = Load("net10.0").GetReferencedAssemblies().Single(a => a.Name == "VMatrix.Model");
        var records = _contexts[^1].LoadFromAssemblyName(model).GetExportedTypes().Where(t => t.GetMethod("<Clone>$") is not null).ToArray();
        Assert.True(records.Length > 30);
        // What the compiler writes lists every property; what we write is not marked as the compiler's.
        Assert.All(records, type => Assert.DoesNotContain(type.GetMethod("ToString", [])!.GetCustomAttributesData(), a => a.AttributeType.Name == "CompilerGeneratedAttribute"));
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void Identities_are_made_from_text_and_from_objects(string framework)
    {
        var identities = Load(framework).GetExportedTypes().Where(t => t.Name.EndsWith("Identity", StringComparison.Ordinal)).ToArray();
        Assert.NotEmpty(identities);
        foreach (var identity in identities)
        {
            string[] made = [.. identity.GetConstructors().Select(c => Assert.Single(c.GetParameters()).ParameterType.Name)];
            Assert.Contains("String", made);
            Assert.Contains("PSObject", made);
            if (identity.GetProperty("Id") is not null)
                Assert.Contains("Guid", made);
        }
    }

    [Theory, MemberData(nameof(Frameworks))]
    public void What_is_written_is_declared(string framework)
    {
        foreach (var cmdlet in Cmdlets(framework).Where(c => c.Verb is not ("Remove" or "Unregister")))
            Assert.Contains(cmdlet.Type.GetCustomAttributesData(), a => a.AttributeType.Name == "OutputTypeAttribute");
    }

    [Fact]
    public void Both_frameworks_have_the_same_cmdlets_and_parameters() =>
        Assert.Equal(Signatures("netstandard2.0"), Signatures("net10.0"));

    [Fact]
    public void Formats_name_types_and_properties_that_exist()
    {
        var model = Load("net10.0").GetReferencedAssemblies().Single(a => a.Name == "VMatrix.Model");
        var types = _contexts[^1].LoadFromAssemblyName(model);
        var extended = System.Xml.Linq.XDocument.Load(Path.Combine(Staged.Folder, "VMatrix.Types.ps1xml")).Descendants("Type").ToArray();
        var added = extended.SelectMany(e => e.Descendants("ScriptProperty").Select(p => $"{e.Element("Name")!.Value}.{p.Element("Name")!.Value}")).ToHashSet();
        var views = System.Xml.Linq.XDocument.Load(Path.Combine(Staged.Folder, "VMatrix.Format.ps1xml")).Descendants("View").ToArray();
        Assert.NotEmpty(views);
        foreach (var view in views)
        {
            string name = view.Descendants("TypeName").Single().Value;
            var type = types.GetType(name);
            Assert.True(type is not null, name);
            foreach (var property in view.Descendants("PropertyName").Select(p => p.Value)
                .Concat(view.Descendants("ScriptBlock").SelectMany(s => Regex.Matches(OfItself(s.Value), @"(?<![\w)])\$_\.(\w+)").Select(m => m.Groups[1].Value))))
            {
                Assert.True(type.GetProperty(property) is not null || added.Contains($"{name}.{property}"), $"{name}.{property}");
            }
        }

        foreach (var entry in extended)
        {
            var type = types.GetType(entry.Element("Name")!.Value);
            Assert.True(type is not null, entry.Element("Name")!.Value);
            foreach (var property in entry.Descendants("ReferencedProperties").SelectMany(r => r.Elements("Name")))
                Assert.True(type.GetProperty(property.Value) is not null || added.Contains($"{type.FullName}.{property.Value}"), $"{type.Name}.{property.Value}");
            foreach (Match read in entry.Descendants("GetScriptBlock").SelectMany(b => Regex.Matches(b.Value, @"\$this\.(?:psbase\.)?(\w+)(?:\.(\w+))?")))
            {
                var first = type.GetProperty(read.Groups[1].Value);
                Assert.True(first is not null, read.Value);
                if (read.Groups[2].Success)
                    Assert.True(first.PropertyType.GetProperty(read.Groups[2].Value) is not null || added.Contains($"{first.PropertyType.FullName}.{read.Groups[2].Value}"), read.Value);
            }
        }
    }

    /// <summary>A script without the blocks whose $_ is another object: those of ForEach-Object.</summary>
    private static string OfItself(string script)
    {
        const string each = "ForEach-Object {";
        for (int begin = script.IndexOf(each, StringComparison.Ordinal); begin >= 0; begin = script.IndexOf(each, StringComparison.Ordinal))
        {
            int at = begin + each.Length;
            for (int open = 1; open > 0; at++)
                open += script[at] == '{' ? 1 : script[at] == '}' ? -1 : 0;
            script = script.Remove(begin, at - begin);
        }

        return script;
    }

    public static TheoryData<string> Frameworks => ["net10.0", "netstandard2.0"];

    private string[] Signatures(string framework) =>
        [.. AllParameters(framework).Select(p => $"{p.Cmdlet.Name} -{p.Parameter.Name} {p.Parameter.PropertyType}").Order(StringComparer.Ordinal)];

    private Assembly Load(string framework)
    {
        _contexts.Add(Staged.Load(framework, out var assembly));
        return assembly;
    }

    private IEnumerable<(CmdletClass Cmdlet, PropertyInfo Parameter)> AllParameters(string framework) =>
        Cmdlets(framework).SelectMany(c => Parameters(c.Type).Select(p => (c, p)));

    private CmdletClass[] Cmdlets(string framework) =>
    [
        .. Load(framework).GetExportedTypes()
            .Select(t => (Type: t, Attribute: t.GetCustomAttributesData().SingleOrDefault(a => a.AttributeType.Name == "CmdletAttribute")))
            .Where(t => t.Attribute is not null)
            .Select(t => new CmdletClass(t.Type, t.Attribute!)),
    ];

    private static IEnumerable<PropertyInfo> Parameters(Type type)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        for (var at = type; at is not null && at.Assembly == type.Assembly; at = at.BaseType)
        {
            foreach (var property in at.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly))
            {
                if (Attributes(property, "ParameterAttribute").Length > 0 && seen.Add(property.Name))
                    yield return property;
            }
        }
    }

    private static CustomAttributeData[] Attributes(PropertyInfo property, string name) =>
        [.. property.GetCustomAttributesData().Where(a => a.AttributeType.Name == name)];

    private static object? Named(CustomAttributeData attribute, string name) =>
        attribute.NamedArguments.Where(a => a.MemberName == name).Select(a => a.TypedValue.Value).SingleOrDefault();

    private sealed record CmdletClass(Type Type, CustomAttributeData Attribute)
    {
        public string Verb => (string)Attribute.ConstructorArguments[0].Value!;

        public string Noun => (string)Attribute.ConstructorArguments[1].Value!;

        public string Name => $"{Verb}-{Noun}";

        public object? Named(string name) => CmdletTests.Named(Attribute, name);
    }
}
