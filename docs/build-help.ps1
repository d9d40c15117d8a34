# Makes the help that PowerShell shows (en-US/VMatrix.Cmdlets.dll-Help.xml, en-US/about_*.help.txt) and brings docs/en-US/*.md up to date.
# By hand in the Markdown: description, examples, notes, and the about topics. From the code: synopsis, syntax, parameters and what they
# mean (the XML comments of the cmdlets), inputs, outputs. Needs the staged module and nothing else.
$ErrorActionPreference = 'Stop'
$repo = (Resolve-Path "$PSScriptRoot/..").Path
Import-Module "$repo/out/VMatrix" -Force
$common = [System.Management.Automation.PSCmdlet]::CommonParameters
$utf8 = [System.Text.UTF8Encoding]::new($false)

function Write-Page([string] $Path, [string[]] $Line) {
    [IO.File]::WriteAllText($Path, (($Line -join "`n") -replace "`r`n", "`n").TrimEnd() + "`n", $utf8)
}

# XML comments by member, as plain sentences.
$comments = @{}
foreach ($project in 'VMatrix.Cmdlets', 'VMatrix.Model') {
    $xml = [xml](Get-Content -Raw "$repo/src/$project/bin/Release/net10.0/$project.xml")
    foreach ($member in $xml.doc.members.member) {
        $summary = $member.SelectSingleNode('summary')
        if ($summary) {
            $text = $summary.InnerXml -replace '<c>(.*?)</c>', '`$1`' -replace '<see cref="[^"]*?([^.":(]+)(\([^"]*\))?"\s*/>', '`$1`' -replace '<[^>]+>' -replace '\s+', ' '
            $comments[$member.name] = [System.Net.WebUtility]::HtmlDecode($text.Trim())
        }
    }
}
$shared = @{
    WhatIf  = 'Shows what would be done, and does nothing.'
    Confirm = 'Asks before anything is done.'
}

function Get-Comment([type] $Type, [string] $Property) {
    for ($at = $Type; $at; $at = $at.BaseType) {
        $text = $comments["P:$($at.FullName).$Property"]
        if ($text) { return $text }
    }
    if ($shared[$Property]) { return $shared[$Property] }
    throw "$Type -$Property has no XML comment."
}

# What was written by hand of a page: the text under a heading of the second level.
function Get-Section([string] $Page, [string] $Name) {
    [regex]::Match($Page, '(?ms)^## ' + $Name + '\s*$(.*?)(?=^## |\z)').Groups[1].Value.Trim()
}

function Get-TypeName([type] $Type) {
    $bare = [Nullable]::GetUnderlyingType($Type) ?? $Type
    if ($bare.IsArray) { return "$(Get-TypeName $bare.GetElementType())[]" }
    $bare.FullName
}

# Markdown as text of a terminal: no marks, no comments, lines of at most 80 signs, broken between words.
function ConvertTo-Plain([string] $Text) {
    # A link that leads out of these pages is told with its address.
    $Text = $Text -replace '\[([^\]]+)\]\((https?://(?:[^()\s]|\([^()]*\))+)\)', '$1 ($2)'
    $Text = $Text -replace '\[(`?[^\]]+?`?)\]\([^)]+\)', '$1' -replace '\*\*(.+?)\*\*', '$1'
    $parts = $Text -split '(`[^`]*`)'
    ($parts | ForEach-Object {
        if ($_ -match '^`(.*)`$') { $Matches[1] }
        else { $_ -replace '\[([^\]]+)\]\([^)]+\)', '$1' -replace '\*\*([^*]+)\*\*', '$1' -replace '(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])', '$1' -replace '\\([_*<>|\[\]])', '$1' }
    }) -join ''
}

function Format-Paragraph([string] $Text, [string] $Indent, [string] $Hang) {
    $line = $Indent
    $empty = $true
    foreach ($word in $Text -split '\s+' | Where-Object { $_ }) {
        if (-not $empty -and $line.Length + 1 + $word.Length -gt 80) { $line; $line = $Indent + $Hang; $empty = $true }
        $line += if ($empty) { $word } else { " $word" }
        $empty = $false
    }
    $line
}

function ConvertTo-Topic([string] $Name, [string] $Markdown) {
    $text = $Markdown -replace "`r`n", "`n" -replace '(?s)<!--.*?-->', ''
    $lines = $text -split "`n"
    for ($i = 0; $i -lt $lines.Count; $i++) {
        $line = $lines[$i]
        if ($line -match '^```') {
            for ($i++; $i -lt $lines.Count -and $lines[$i] -notmatch '^```'; $i++) { ('        ' + $lines[$i]).TrimEnd() }
        }
        elseif ($line -match '^# ') { 'TOPIC'; "    $Name" }
        elseif ($line -match '^## (.*)') { (ConvertTo-Plain $Matches[1]).ToUpperInvariant() }
        elseif ($line -match '^###+ (.*)') { "  $(ConvertTo-Plain $Matches[1])" }
        elseif ($line -match '^\|') {
            $rows = @(for (; $i -lt $lines.Count -and $lines[$i] -match '^\|'; $i++) { , @($lines[$i].Trim().Trim('|') -split '(?<!\\)\|' | ForEach-Object { (ConvertTo-Plain $_).Trim() }) })
            $i--
            foreach ($row in $rows | Where-Object { "$_" -notmatch '^[-: ]+$' }) { Format-Paragraph "$($row[0]): $(@($row | Select-Object -Skip 1 | Where-Object { $_ }) -join '; ')" '    ' '    ' }
        }
        elseif ($line -match '^(\s*)([-*]|\d+\.) (.*)') {
            $indent, $mark, $item = $Matches[1], $Matches[2], $Matches[3]
            while ($i + 1 -lt $lines.Count -and $lines[$i + 1] -match '^\s+\S' -and $lines[$i + 1] -notmatch '^\s*([-*]|\d+\.) ') { $i++; $item += ' ' + $lines[$i].Trim() }
            Format-Paragraph "$(if ($mark -eq '*') { '-' } else { $mark }) $(ConvertTo-Plain $item)" "    $indent" '  '
        }
        elseif ($line -match '\S') {
            while ($i + 1 -lt $lines.Count -and $lines[$i + 1] -match '^[^\s#|`-]') { $i++; $line += ' ' + $lines[$i] }
            Format-Paragraph (ConvertTo-Plain $line) '    ' ''
        }
        else { '' }
    }
}

function Protect-Xml([string] $Text) { [System.Security.SecurityElement]::Escape($Text) }
function Get-Para([string] $Text) { foreach ($one in $Text -split "\n\s*\n" | Where-Object { $_.Trim() }) { "<maml:para>$(Protect-Xml (ConvertTo-Plain ($one.Trim() -replace '\s*\n\s*', ' ')))</maml:para>" } }

function Get-ParameterXml($Parameter, $Set, [type] $Class, [switch] $Described) {
    $aliases = @($Parameter.Aliases) -join ', '
    $input = if ($Set.ValueFromPipeline -and $Set.ValueFromPipelineByPropertyName) { 'true (ByValue, ByPropertyName)' } elseif ($Set.ValueFromPipeline) { 'true (ByValue)' } elseif ($Set.ValueFromPipelineByPropertyName) { 'true (ByPropertyName)' } else { 'false' }
    $position = if ($Set.Position -ge 0) { $Set.Position } else { 'named' }
    $globbing = @($Parameter.Attributes | Where-Object { $_ -is [System.Management.Automation.SupportsWildcardsAttribute] }).Count -gt 0
    $type = Get-TypeName $Parameter.ParameterType
    "<command:parameter required=`"$("$($Set.IsMandatory)".ToLowerInvariant())`" variableLength=`"$("$($Parameter.ParameterType.IsArray)".ToLowerInvariant())`" globbing=`"$("$globbing".ToLowerInvariant())`" pipelineInput=`"$input`" position=`"$position`" aliases=`"$(if ($aliases) { $aliases } else { 'none' })`">"
    "<maml:name>$($Parameter.Name)</maml:name>"
    "<maml:description>$(if ($Described) { Get-Para (Get-Comment $Class $Parameter.Name) })</maml:description>"
    if ($Parameter.ParameterType -ne [switch]) { "<command:parameterValue required=`"true`" variableLength=`"false`">$(($type -split '\.')[-1])</command:parameterValue>" }
    "<dev:type><maml:name>$(Protect-Xml $type)</maml:name></dev:type>"
    '</command:parameter>'
}

$maml = @(
    '<?xml version="1.0" encoding="utf-8"?>'
    '<helpItems xmlns:maml="http://schemas.microsoft.com/maml/2004/10" xmlns:command="http://schemas.microsoft.com/maml/dev/command/2004/10" xmlns:dev="http://schemas.microsoft.com/maml/dev/2004/10" schema="maml" xmlns="http://msh">'
)
foreach ($command in Get-Command -Module VMatrix | Sort-Object Name) {
    $class = $command.ImplementingType
    $file = "$repo/docs/en-US/$($command.Name).md"
    $old = if (Test-Path $file) { (Get-Content -Raw $file) -replace "`r`n", "`n" } else { '' }
    $synopsis = $comments["T:$($class.FullName)"]
    $description, $examples, $notes = 'DESCRIPTION', 'EXAMPLES', 'NOTES' | ForEach-Object { Get-Section $old $_ }
    if (-not $description -or -not $examples) { Write-Warning "$file has holes to fill." }
    $parameters = @($command.Parameters.Values | Where-Object Name -NotIn $common | Sort-Object Name)
    $sets = @($command.ParameterSets | Sort-Object { -not $_.IsDefault })
    $others = @(Get-Command -Module VMatrix -Noun $command.Noun | Where-Object Name -NE $command.Name | ForEach-Object Name | Sort-Object)
    $inputs = @($parameters | Where-Object { $_.ParameterSets.Values.ValueFromPipeline -contains $true })
    $outputs = @($command.OutputType.Type | Where-Object { $_ })

    # The page.
    $page = @(
        '---', 'document type: cmdlet', 'external help file: VMatrix.Cmdlets.dll-Help.xml', 'Locale: en-US', 'Module Name: VMatrix', "title: $($command.Name)", '---', ''
        "# $($command.Name)", '', '## SYNOPSIS', '', $synopsis, '', '## SYNTAX', ''
        foreach ($set in $sets) {
            "### $($set.Name)$(if ($set.IsDefault) { ' (Default)' })", '', '```'
            # Long ones go on in another line.
            $line = $command.Name
            foreach ($part in ($set.ToString() -replace ' ?\[<CommonParameters>\]') -split ' (?=\[*-)') { if ($line.Length + $part.Length -gt 98) { $line; $line = '' }; $line += " $part" }
            $line, '```', ''
        }
        '## DESCRIPTION', '', $description, '', '## EXAMPLES', '', $examples, '', '## PARAMETERS', ''
        foreach ($parameter in $parameters) {
            "### -$($parameter.Name)", '', (Get-Comment $class $parameter.Name), '', '```yaml'
            "Type: $(Get-TypeName $parameter.ParameterType)"
            "Aliases: [$($parameter.Aliases -join ', ')]"
            'ParameterSets:'
            foreach ($set in $parameter.ParameterSets.GetEnumerator() | Sort-Object Key) {
                "- Name: $(if ($set.Key -eq '__AllParameterSets') { '(All)' } else { $set.Key })"
                "  Position: $(if ($set.Value.Position -ge 0) { $set.Value.Position } else { 'Named' })"
                "  IsRequired: $("$($set.Value.IsMandatory)".ToLowerInvariant())"
                "  ValueFromPipeline: $("$($set.Value.ValueFromPipeline)".ToLowerInvariant())"
                "  ValueFromPipelineByPropertyName: $("$($set.Value.ValueFromPipelineByPropertyName)".ToLowerInvariant())"
            }
            '```', ''
        }
        '## INPUTS', ''
        foreach ($put in $inputs) { "### $(Get-TypeName $put.ParameterType)", '', (Get-Comment $class $put.Name), '' }
        '## OUTPUTS', ''
        foreach ($type in $outputs) { "### $($type.FullName)", '', ($comments["T:$($type.FullName)"] ?? 'True when all is right.'), '' }
        '## NOTES', '', $notes, '', '## RELATED LINKS', ''
        foreach ($other in $others) { "- [$other]($other.md)" }
        '- [about_VMatrix](about_VMatrix.md)'
    )
    Write-Page $file ((($page -join "`n") -replace "\n{3,}", "`n`n") -split "`n")

    # The same for Get-Help.
    $maml += @(
        '<command:command>', '<command:details>', "<command:name>$($command.Name)</command:name>", "<maml:description>$(Get-Para $synopsis)</maml:description>", "<command:verb>$($command.Verb)</command:verb>", "<command:noun>$($command.Noun)</command:noun>", '</command:details>'
        "<maml:description>$(Get-Para $description)</maml:description>", '<command:syntax>'
        foreach ($set in $sets) {
            '<command:syntaxItem>', "<maml:name>$($command.Name)</maml:name>"
            foreach ($in in $set.Parameters | Where-Object Name -NotIn $common | Sort-Object { if ($_.Position -ge 0) { $_.Position } else { 1000 } }) { Get-ParameterXml $command.Parameters[$in.Name] $in $class }
            '</command:syntaxItem>'
        }
        '</command:syntax>', '<command:parameters>'
        foreach ($parameter in $parameters) { Get-ParameterXml $parameter @($parameter.ParameterSets.Values)[0] $class -Described }
        '</command:parameters>', '<command:inputTypes>'
        foreach ($put in $inputs) { "<command:inputType><dev:type><maml:name>$(Protect-Xml (Get-TypeName $put.ParameterType))</maml:name></dev:type><maml:description>$(Get-Para (Get-Comment $class $put.Name))</maml:description></command:inputType>" }
        '</command:inputTypes>', '<command:returnValues>'
        foreach ($type in $outputs) { "<command:returnValue><dev:type><maml:name>$($type.FullName)</maml:name></dev:type><maml:description>$(Get-Para ($comments["T:$($type.FullName)"] ?? 'True when all is right.'))</maml:description></command:returnValue>" }
        '</command:returnValues>'
        if ($notes) { "<maml:alertSet><maml:alert>$(Get-Para $notes)</maml:alert></maml:alertSet>" }
        '<command:examples>'
        foreach ($example in [regex]::Matches($examples, '(?s)### (?<title>[^\n]+)\n\s*(?<intro>.*?)```powershell\n(?<code>.*?)\n```\s*(?<remarks>.*?)(?=\n### |\z)')) {
            "<command:example><maml:title>--------- $(Protect-Xml (ConvertTo-Plain $example.Groups['title'].Value)) ---------</maml:title>"
            "<maml:introduction>$(Get-Para $example.Groups['intro'].Value)</maml:introduction>"
            "<dev:code>$(Protect-Xml $example.Groups['code'].Value)</dev:code>"
            "<dev:remarks>$(Get-Para $example.Groups['remarks'].Value)</dev:remarks></command:example>"
        }
        '</command:examples>', '<command:relatedLinks>'
        foreach ($other in $others + 'about_VMatrix') { "<maml:navigationLink><maml:linkText>$other</maml:linkText><maml:uri></maml:uri></maml:navigationLink>" }
        '</command:relatedLinks>', '</command:command>'
    )
}
$maml += '</helpItems>'
$null = New-Item -ItemType Directory -Force "$repo/en-US"
$null = [xml]($maml -join "`n")
Write-Page "$repo/en-US/VMatrix.Cmdlets.dll-Help.xml" $maml
foreach ($topic in Get-ChildItem "$repo/docs/en-US/about_*.md") {
    Write-Page "$repo/en-US/$($topic.BaseName).help.txt" ((((ConvertTo-Topic $topic.BaseName (Get-Content -Raw $topic.FullName)) -join "`n") -replace "\n{3,}", "`n`n") -split "`n")
}
